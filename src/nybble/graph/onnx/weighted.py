"""Convolutions and matrix products: integer weights as they are, biases in the unit of the sums."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx

from nybble.graph.infer import MAX_EXTENT
from nybble.graph.nodes import Conv2d, Linear, Padding, Pair
from nybble.graph.onnx.errors import OnnxImportError
from nybble.graph.onnx.load import attribute, label
from nybble.graph.onnx.quantization import SYMMETRIC
from nybble.graph.onnx.values import Constant, Real, Value, are_same
from nybble.graph.tensor import Tensor
from nybble.graph.types import Array, DType

if TYPE_CHECKING:
    from nybble.graph.onnx.importer import Importer


#: What no activation is below.
LOWEST = -1e30


def conv(importer: Importer, node: onnx.NodeProto) -> Value:
    """Conv of two dimensions with a constant weight."""
    name = label(node)
    real = importer.activation(node, 0)
    weight, scale = _weight(importer, node, 4, 0)
    shape = importer.build.types[real.value].shape
    if real.flat or len(shape) != 3:
        raise OnnxImportError("a convolution of something else than images is not supported", node=name)
    kernel = Pair(*weight.shape[2:])
    if attribute(node, "kernel_shape", list(kernel)) != list(kernel):
        raise OnnxImportError("kernel_shape differs from its weight's", node=name)
    stride, dilation = pair(node, "strides"), pair(node, "dilations")
    unit = real.unit[0] * scale
    made = Conv2d(
        name=importer.build.free(name),
        inputs=(real.value,),
        input_type=importer.build.types[real.value].dtype,
        weight=weight,
        bias=_bias(importer, node, unit),
        stride=stride,
        padding=padding(node, real, shape, kernel, stride, dilation),
        dilation=dilation,
        groups=attribute(node, "group", 1),
    )
    return Real(importer.build.add(made), unit, True)


def gemm(importer: Importer, node: onnx.NodeProto) -> Value:
    """Gemm with a constant second factor."""
    if attribute(node, "alpha", 1.0) != 1 or attribute(node, "beta", 1.0) != 1 or attribute(node, "transA", 0):
        raise OnnxImportError("only alpha=1, beta=1 and transA=0 are supported", node=label(node))
    return _linear(importer, node, bool(attribute(node, "transB", 0)))


def matmul(importer: Importer, node: onnx.NodeProto) -> Value:
    """MatMul with a constant second factor."""
    return _linear(importer, node, False)


def _linear(importer: Importer, node: onnx.NodeProto, is_transposed: bool) -> Value:
    real = importer.activation(node, 0)
    shape = importer.build.types[real.value].shape
    if len(shape) > 1 and not real.flat:
        raise OnnxImportError("reads images; put a Flatten before it", node=label(node))
    weight, scale = _weight(importer, node, 2, 0 if is_transposed else 1)
    unit = real.unit[0] * scale
    made = Linear(
        name=importer.build.free(label(node)),
        inputs=(real.value,),
        input_type=importer.build.types[real.value].dtype,
        weight=weight,
        bias=_bias(importer, node, unit),
    )
    return Real(importer.build.add(made), unit, True)


def add_bias(importer: Importer, node: onnx.NodeProto) -> Value:
    """Add of a constant: the bias of the convolution or matrix product before it."""
    index = 0 if isinstance(importer.value(node, 0), Constant) else 1
    constant = importer.constant(node, index, "summand")
    real = importer.real(node, 1 - index)
    shape = importer.build.types[real.value].shape
    channels = constant.real.size == shape[0] and shape[0] in constant.real.shape[-len(shape) :][:1]
    if real.is_sum and not real.is_cut and channels and importer.reads_only(node.input[1 - index], node):
        bias = _integers(importer, node, constant, real.unit)
        if importer.build.set_bias(real.value, bias):
            return real
    raise OnnxImportError(
        "a constant can only be added to the sums of a convolution or matrix product, one number a channel",
        node=label(node),
    )


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
    # Nothing wins against the lowest value of a max pool.
    is_neutral = real.filling <= LOWEST if node.op_type == "MaxPool" else real.filling == 0
    if not is_neutral or own != Padding():
        raise OnnxImportError(f"the Pad before it, with {real.filling:g}, cannot be its own padding", node=label(node))
    return real.padding


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


def _weight(importer: Importer, node: onnx.NodeProto, rank: int, channel_axis: int) -> tuple[Tensor, Array]:
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
    if constant.axis not in (None, channel_axis):
        raise OnnxImportError("its weight has scales along another axis than the output channels", node=name)
    if integers.min() < constant.dtype.minimum or integers.max() > constant.dtype.maximum:
        raise OnnxImportError(f"its weight has a zero point other than 0: {SYMMETRIC}", node=name)
    moved = np.moveaxis(integers, channel_axis, 0)
    scale = np.broadcast_to(constant.scale, (len(moved),)).astype(np.float64)
    return Tensor.from_array(constant.dtype, moved), scale


def _bias(importer: Importer, node: onnx.NodeProto, unit: Array) -> Tensor | None:
    if not importer.has(node, 2):
        return None
    constant = importer.constant(node, 2, "bias")
    if constant.real.size == 1 and len(unit) > 1 and node.op_type == "Gemm":
        constant = Constant(np.full(len(unit), constant.real.reshape(-1)[0]))
    if constant.real.reshape(-1).shape != unit.shape:
        raise OnnxImportError(f"its bias has shape {constant.real.shape}, not ({len(unit)},)", node=label(node))
    return _integers(importer, node, constant, unit)


def _integers(importer: Importer, node: onnx.NodeProto, constant: Constant, unit: Array) -> Tensor:
    """A bias in steps of the sums; its own integers where they count in those."""
    name = label(node)
    if constant.integers is not None and constant.scale is not None and are_same(constant.scale, unit):
        values = constant.integers.reshape(-1)
    else:
        steps = constant.real.astype(np.float64).reshape(-1) / unit
        values = np.rint(steps)
        if not np.all(np.abs(values) <= DType.S32.maximum):
            raise OnnxImportError("its bias does not fit 32 bits in steps of the sums", node=name)
        values = values.astype(np.int64)
        importer.build.rounded(name, "bias", float(np.max(np.abs(steps - values))), "in steps of the sum")
    if np.any(values < DType.S32.minimum) or np.any(values > DType.S32.maximum):
        raise OnnxImportError("its bias does not fit 32 bits", node=name)
    hinted = importer.build.hint(name).bias
    fits = hinted is DType.S16 and values.min() >= DType.S16.minimum and values.max() <= DType.S16.maximum
    return Tensor.from_array(DType.S16 if fits else DType.S32, values)
