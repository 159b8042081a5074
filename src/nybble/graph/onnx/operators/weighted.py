"""Convolutions and matrix products: integer weights as they are, biases in the unit of the sums."""

from __future__ import annotations

import numpy as np
import onnx

from nybble.graph.nodes import Padding, Pair
from nybble.graph.onnx.errors import OnnxImportError
from nybble.graph.onnx.load import attribute, label
from nybble.graph.onnx.operators.affine import alive
from nybble.graph.onnx.operators.importing import Importing
from nybble.graph.onnx.operators.quantization import SYMMETRIC
from nybble.graph.onnx.operators.registry import reads
from nybble.graph.onnx.values import Constant, Real, Value, are_same
from nybble.graph.ops import Conv2d, Linear
from nybble.graph.tensor import Tensor
from nybble.graph.types import Array, DType
from nybble.graph.value_type import MAX_EXTENT

#: A number below every activation.
LOWEST = -1e30


@reads("Conv", takes_padding=True)
def conv(importer: Importing, node: onnx.NodeProto) -> Value:
    """Conv of two dimensions with a constant weight."""
    name, build = label(node), importer.build
    real = importer.activation(node, 0)
    weight, scale = _weight(importer, node, 4, 0)
    shape = build.types[real.value].shape
    if real.flat or real.layout is not None or len(shape) != 3:
        raise OnnxImportError("a convolution of something else than images (N, C, H, W) is not supported", node=name)
    kernel = Pair(*weight.shape[2:])
    if attribute(node, "kernel_shape", list(kernel)) != list(kernel):
        raise OnnxImportError("kernel_shape differs from its weight's", node=name)
    groups = attribute(node, "group", 1)
    if groups < 1 or shape[0] % groups or len(scale) % groups:
        raise OnnxImportError(f"group={groups} does not divide its channels", node=name)
    stride, dilation = pair(node, "strides"), pair(node, "dilations")
    around = padding(node, real, shape, kernel, stride, dilation)
    by_group = real.unit.reshape(groups, -1)
    if np.any(by_group != by_group[:, :1]):
        real = build.uniform(real, name)
        by_group = real.unit.reshape(groups, -1)
    # Scales by channel before a depthwise layer multiply those of its weights: nothing is rounded.
    unit = np.repeat(by_group[:, 0], len(scale) // groups) * scale
    weight, unit = _pruned(weight, unit, _real_bias(importer, node, len(unit)))
    called = build.free(name)
    made = Conv2d(
        name=called,
        inputs=(real.value,),
        input_type=build.types[real.value].dtype,
        weight=weight,
        bias=_bias(importer, node, called, unit),
        stride=stride,
        padding=around,
        dilation=dilation,
        groups=groups,
    )
    return Real(build.add(made), unit, True)


@reads("Gemm")
def gemm(importer: Importing, node: onnx.NodeProto) -> Value:
    """Gemm with a constant second factor."""
    if attribute(node, "transA", 0):
        raise OnnxImportError(
            "transA=1 makes features of the images of a batch; transpose the weight in its place (transB)",
            node=label(node),
        )
    alpha, beta = attribute(node, "alpha", 1.0), attribute(node, "beta", 1.0)
    if not np.isfinite(alpha) or not np.isfinite(beta):
        raise OnnxImportError("its alpha or beta is not a finite number", node=label(node))
    return _linear(importer, node, bool(attribute(node, "transB", 0)), alpha, beta)


@reads("MatMul")
def matmul(importer: Importing, node: onnx.NodeProto) -> Value:
    """MatMul with a constant second factor."""
    return _linear(importer, node, False, 1.0, 1.0)


def _linear(importer: Importing, node: onnx.NodeProto, is_transposed: bool, alpha: float, beta: float) -> Value:
    name, build = label(node), importer.build
    if isinstance(importer.value(node, 0), Constant):
        raise OnnxImportError(
            "its first factor is a constant, which makes channels of the images of a batch; make the constant the "
            "second factor, transposed",
            node=name,
        )
    real = importer.activation(node, 0)
    shape = build.types[real.value].shape
    if len(shape) > 1 and not real.flat:
        raise OnnxImportError("reads images; put a Flatten before it", node=name)
    weight, scale = _weight(importer, node, 2, 0 if is_transposed else 1)
    real = build.uniform(real, name)
    if real.layout is not None and len(shape) == 3:
        weight = _reordered(node, weight, shape, real.layout)
    unit = real.unit[0] * scale * abs(alpha)
    if alpha < 0:
        weight = _turned(importer, node, weight)
    weight, unit = _pruned(weight, unit, _real_bias(importer, node, len(unit), beta))
    called = build.free(name)
    made = Linear(
        name=called,
        inputs=(real.value,),
        input_type=build.types[real.value].dtype,
        weight=weight,
        bias=_bias(importer, node, called, unit, beta),
    )
    return Real(build.add(made), unit, True)


def _reordered(node: onnx.NodeProto, weight: Tensor, shape: tuple[int, ...], layout: tuple[int, int, int]) -> Tensor:
    """The weight of flattened images whose dimensions a Transpose had reordered, for (C, H, W)."""
    values = weight.numpy()
    if values.shape[1] != int(np.prod(shape)):
        raise OnnxImportError(
            f"its weight takes {values.shape[1]} features, not {int(np.prod(shape))}", node=label(node)
        )
    seen = values.reshape(len(values), *(shape[axis] for axis in layout))
    order = [0, *(1 + layout.index(axis) for axis in range(3))]
    return Tensor.from_array(weight.dtype, np.ascontiguousarray(seen.transpose(order)).reshape(len(values), -1))


def _turned(importer: Importing, node: onnx.NodeProto, weight: Tensor) -> Tensor:
    """A weight with the other sign."""
    values = -weight.numpy().astype(np.int64)
    dtype = DType.S8 if values.max() > weight.dtype.maximum else weight.dtype
    lost = (values > dtype.maximum).reshape(len(values), -1).sum(axis=1).max()
    if lost:
        importer.build.rounded(
            label(node), "weight", 255.0 * float(lost), "at most, in steps of the sum: -128 turned is 127"
        )
    return Tensor.from_array(dtype, np.minimum(values, dtype.maximum))


def _pruned(weight: Tensor, unit: Array, bias: Array | None) -> tuple[Tensor, Array]:
    """Channels with a scale of 0 equal their bias: they get weights of 0, and a unit that expresses the bias."""
    if np.all(unit > 0):
        return weight, unit
    values = weight.numpy().copy()
    values[unit == 0] = 0
    least = np.zeros_like(unit) if bias is None else np.abs(bias) / (1 << 20)
    return Tensor.from_array(weight.dtype, values), np.where(unit > 0, unit, np.maximum(alive(unit), least))


def pair(node: onnx.NodeProto, name: str) -> Pair:
    """Two numbers, rows and columns; 1 and 1 where the node does not say."""
    values = attribute(node, name, [1, 1])
    if len(values) != 2:
        raise OnnxImportError(f"{name}={values[:6]}: only two dimensions are supported", node=label(node))
    return Pair(*values)


def padding(
    node: onnx.NodeProto, real: Real, shape: tuple[int, ...], kernel: Pair, stride: Pair, dilation: Pair
) -> Padding:
    """The padding of a window: a Pad's before it, and its own, computed where the node leaves that to the runtime."""
    own = _own_padding(node, shape, kernel, stride, dilation)
    if real.padding is None:
        return own
    # The lowest value is never the maximum of a max pool.
    is_neutral = real.filling <= LOWEST if node.op_type == "MaxPool" else real.filling == 0
    is_explicit = attribute(node, "auto_pad", b"NOTSET") in (b"NOTSET", b"", b"VALID")
    if not is_neutral or not (is_explicit or own == Padding()):
        raise OnnxImportError(f"the Pad before it, with {real.filling:g}, cannot be its own padding", node=label(node))
    return Padding(*(more + size for more, size in zip(real.padding, own, strict=True)))


def _own_padding(node: onnx.NodeProto, shape: tuple[int, ...], kernel: Pair, stride: Pair, dilation: Pair) -> Padding:
    mode = attribute(node, "auto_pad", b"NOTSET")
    if mode in (b"NOTSET", b""):
        pads = attribute(node, "pads", [0, 0, 0, 0])
        if len(pads) != 4:
            raise OnnxImportError(f"pads={pads[:10]}: only two dimensions are supported", node=label(node))
        return Padding(*pads)
    if mode == b"VALID":
        return Padding()
    sides = []
    for size, extent, step, spread in zip(shape[1:], kernel, stride, dilation, strict=True):
        if not 1 <= step <= MAX_EXTENT:
            raise OnnxImportError(f"stride {step} is not possible", node=label(node))
        total = max(0, (-(-size // step) - 1) * step + spread * (extent - 1) + 1 - size)
        small, large = total // 2, total - total // 2
        sides.append((small, large) if mode == b"SAME_UPPER" else (large, small))
    return Padding(sides[0][0], sides[1][0], sides[0][1], sides[1][1])


def _weight(importer: Importing, node: onnx.NodeProto, rank: int, channel_axis: int) -> tuple[Tensor, Array]:
    """The weight, out channels first, and its scale, (out channels)."""
    constant = importer.constant(node, 1, "weight")
    name = label(node)
    if constant.integers is None or constant.scale is None or constant.dtype not in (DType.S4, DType.S8):
        raise OnnxImportError(
            "its weight is not quantized to 4 or 8 bits; quantize the whole network (or use `nybble quantize`)",
            node=name,
        )
    integers = constant.integers
    if integers.ndim != rank or not integers.size:
        raise OnnxImportError(f"its weight has shape {integers.shape}, not {rank} dimensions", node=name)
    if integers.min() < constant.dtype.minimum or integers.max() > constant.dtype.maximum:
        raise OnnxImportError(f"its weight has a zero point other than 0: {SYMMETRIC}", node=name)
    moved = np.moveaxis(integers, channel_axis, 0)
    scales = np.moveaxis(np.broadcast_to(constant.scale, integers.shape), channel_axis, 0).reshape(len(moved), -1)
    if np.any(scales != scales[:, :1]):
        raise OnnxImportError("its weight has scales along another axis than the output channels", node=name)
    return Tensor.from_array(constant.dtype, moved), scales[:, 0].astype(np.float64)


def _given_bias(importer: Importing, node: onnx.NodeProto, channels: int) -> Constant | None:
    """The bias, (channels)."""
    if not importer.has(node, 2):
        return None
    constant = importer.constant(node, 2, "bias")
    shape = constant.real.shape
    wanted = (channels,) if node.op_type == "Conv" else (1, channels)
    fits = len(shape) <= len(wanted) and all(
        size in (1, full) for size, full in zip(shape[::-1], wanted[::-1], strict=False)
    )
    if not fits or (node.op_type == "Conv" and shape != wanted):
        raise OnnxImportError(f"its bias has shape {shape}, not ({channels},)", node=label(node))
    parts = [
        None if values is None else np.broadcast_to(values.reshape(values.shape[-1:]), (channels,))
        for values in (constant.real, constant.integers, constant.scale)
    ]
    if parts[0] is None or not np.all(np.isfinite(parts[0])):
        raise OnnxImportError("its bias holds NaN or infinity", node=label(node))
    return Constant(parts[0], constant.kind, parts[1], constant.dtype, parts[2])


def _real_bias(importer: Importing, node: onnx.NodeProto, channels: int, beta: float = 1.0) -> Array | None:
    constant = _given_bias(importer, node, channels)
    return None if constant is None else constant.real.astype(np.float64) * beta


def _bias(importer: Importing, node: onnx.NodeProto, called: str, unit: Array, beta: float = 1.0) -> Tensor | None:
    """A bias in steps of the sums; its own integers where they count in those."""
    constant = _given_bias(importer, node, len(unit))
    if constant is None:
        return None
    steps = constant.real.astype(np.float64) * beta / unit
    if constant.integers is not None and constant.scale is not None and are_same(constant.scale * beta, unit):
        steps = constant.integers.astype(np.float64)
    return importer.build.bias(called, steps)
