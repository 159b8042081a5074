"""Pools of an imported model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx

from nybble.graph.nodes import Padding, Pair
from nybble.graph.onnx.averages import Window, at_once, can_be_summed, of_sums, summed
from nybble.graph.onnx.builder import Builder
from nybble.graph.onnx.errors import OnnxImportError
from nybble.graph.onnx.load import attribute, label
from nybble.graph.onnx.operators.importing import Importing
from nybble.graph.onnx.operators.registry import reads
from nybble.graph.onnx.operators.shapes import integers
from nybble.graph.onnx.operators.weighted import padding, pair
from nybble.graph.onnx.values import Constant, Real, Stored, Value, are_same
from nybble.graph.ops import AvgPool2d, MaxPool2d, operation_of
from nybble.graph.types import Array

#: A scale that is smaller by this part, as nybble's exports have behind a pool, says that halves go up.
AWAY = 2.0**-25


@reads("MaxPool", takes_padding=True, commutes=True)
def max_pool(importer: Importing, node: onnx.NodeProto) -> Value:
    """MaxPool: the same on integers. Of sums it is taken behind their QuantizeLinear, which it commutes with."""
    found = importer.value(node, 0)
    if isinstance(found, Stored):
        _check_images(importer, node, found)
        real = Real(found.value, np.ones(importer.build.types[found.value].shape[0]), False, padding=found.padding)
    else:
        real = _quantized(importer, node, _images(importer, node))
    kernel, stride, around = _window(importer, node, real)
    made = MaxPool2d(
        name=importer.build.free(label(node)),
        inputs=(real.value,),
        input_type=importer.build.types[real.value].dtype,
        kernel_size=kernel,
        stride=stride,
        padding=around,
        dilation=pair(node, "dilations"),
        ceil_mode=bool(attribute(node, "ceil_mode", 0)),
    )
    value = importer.build.add(made)
    if isinstance(found, Stored):
        return replace(found, value=value, padding=None)
    return replace(real, value=value, through=None, padding=None)


@reads("GlobalMaxPool", "ReduceMax", commutes=True)
def global_max_pool(importer: Importing, node: onnx.NodeProto) -> Value:
    """GlobalMaxPool, or a ReduceMax that is one."""
    real, is_kept = _over_images(importer, node)
    stored = _quantized(importer, node, replace(real, layout=None))
    dtype, kernel = importer.build.types[stored.value].dtype, Pair(*importer.build.types[stored.value].shape[1:])
    name = importer.build.free(label(node))
    made = MaxPool2d(name=name, inputs=(stored.value,), input_type=dtype, kernel_size=kernel, stride=kernel)
    value = importer.build.add(made)
    return replace(stored, value=value, through=None, flat=not is_kept, layout=real.layout if is_kept else None)


@reads("AveragePool")
def average_pool(importer: Importing, node: onnx.NodeProto) -> Value:
    """AveragePool: rounded as its QuantizeLinear does, or summed where that has another scale."""
    real = _images(importer, node)
    if pair(node, "dilations") != Pair(1, 1):
        raise OnnxImportError("an average pool with dilation is not supported", node=label(node))
    kernel, stride, around = _window(importer, node, real)
    ceil_mode = bool(attribute(node, "ceil_mode", 0))
    counted = bool(attribute(node, "count_include_pad", 0))
    return _average(importer, node, real, Window(kernel, stride, around), ceil_mode, counted)


@reads("GlobalAveragePool", "ReduceMean")
def global_average_pool(importer: Importing, node: onnx.NodeProto) -> Value:
    """GlobalAveragePool, or a ReduceMean that is one, also of images with channels last."""
    real, is_kept = _over_images(importer, node)
    kernel = Pair(*importer.build.types[real.value].shape[1:])
    # One window has no stride, but a graph may say one.
    stride = Pair(*(importer.build.hint(label(node)).stride or (1, 1)))
    window = Window(kernel, stride, Padding())
    made = _average(importer, node, replace(real, layout=None), window, False, True)
    return replace(made, flat=not is_kept, layout=real.layout if is_kept else None)


def _over_images(importer: Importing, node: onnx.NodeProto) -> tuple[Real, bool]:
    """Images that are reduced to one number per channel, and whether rows and columns of 1 are left over."""
    real = importer.real(node, 0)
    if not node.op_type.startswith("Reduce"):
        _check_images(importer, node, real)
        return real, True
    _check_images(importer, node, replace(real, layout=None))
    axes = integers(importer, node, 1, "axes")
    if sorted((real.layout or (0, 1, 2))[axis % 4 - 1] if axis % 4 else 0 for axis in axes) != [1, 2]:
        raise OnnxImportError(
            f"{node.op_type} over axes {axes[:6]} is not supported, only over rows and columns", node=label(node)
        )
    return real, bool(attribute(node, "keepdims", 1))


def _average(
    importer: Importing, node: onnx.NodeProto, real: Real, window: Window, ceil_mode: bool, counted: bool
) -> Real:
    build, name = importer.build, label(node)
    quantizers, others = importer.behind(node)
    behind = quantizers[0] if len(quantizers) == 1 and not others else None
    if behind is not None and behind.added and not _moves_halves(real.unit, behind.added, window.count):
        behind = None
    scale = None if behind is None else behind.scale(real)
    goes_up = scale is not None and behind is not None and _goes_up(importer, real, scale, behind.added, window.count)
    is_alike = scale is not None and are_same(real.unit, scale)
    has_one_count = (window.padding == Padding() or counted) and not ceil_mode
    if has_one_count and can_be_summed(build, real.value, window):
        if not real.is_stored:
            made = of_sums(build, real, window, name)
            step = float(made.unit.max()) * window.count
            where = "in steps of what it averages" if scale is None else "in steps of the mean"
            build.rounded(name, "mean", 0.5 if scale is None else 0.5 * step / float(scale.min()), where)
            return made
        if scale is not None and behind is not None and not goes_up:
            at_even = at_once(build, real, window, scale, behind.dtype, name)
            if at_even is not None:
                return at_even
        if not is_alike:
            # One rounding, not two: sums, whose scale the division by the count goes into.
            return Real(summed(build, real.value, window, name), real.unit / window.count, True)
    if not real.is_stored:
        raise OnnxImportError(
            f"averages {node.input[0][:80]!r}, which was not quantized, over windows that count differently: "
            "put QuantizeLinear and DequantizeLinear before it",
            node=name,
        )
    if not is_alike:
        build.rounded(name, "mean", 0.5, "in steps of what it reads, before its own QuantizeLinear")
    elif not goes_up and not (has_one_count and window.count % 2):
        build.rounded(name, "halves", 1.0, "step: halves go up, in ONNX to the even neighbour")
    dtype = build.types[real.value].dtype
    pooled = AvgPool2d(
        name=build.free(name),
        inputs=(real.value,),
        input_type=dtype,
        kernel_size=window.kernel,
        stride=window.stride,
        padding=window.padding,
        ceil_mode=ceil_mode,
        count_include_pad=counted,
    )
    return replace(real, value=build.add(pooled), through=None)


def _goes_up(importer: Importing, real: Real, scale: Array, added: float, count: int) -> bool:
    """Whether halves go up, as the engine's do: nybble's exports say so, with or without metadata."""
    parts = real.unit / scale - 1
    is_smaller = bool(np.all((parts > AWAY) & (parts < 8 * AWAY)))
    return importer.build.is_ours or is_smaller or _moves_halves(real.unit, added, count)


def _moves_halves(unit: Array, added: float, count: int) -> bool:
    """Whether a summand moves the halves of averages up and nothing else: they are multiples of 1 / count."""
    return bool(np.all((added / unit > 0) & (added / unit < 0.5 / count)))


def moves_halves_alone(build: Builder, real: Real, constant: Constant) -> bool:
    """Whether adding a constant to an average makes its halves go up, as the engine's do, and changes nothing else."""
    made = build.made(real.value)
    operation = None if made is None else operation_of(made)
    if made is None or operation is None or constant.real.size != 1 or real.is_cut:
        return False
    count = operation.parts(made, [build.types[name] for name in made.inputs])
    return count is not None and _moves_halves(real.unit, float(constant.real.reshape(-1)[0]), count)


def _quantized(importer: Importing, node: onnx.NodeProto, real: Real) -> Real:
    """Images that a max pool reads: sums become what a QuantizeLinear behind the pool makes of them."""
    if real.is_stored:
        return real
    build, name = importer.build, label(node)
    quantizers, others = importer.behind(node, commuting=True)
    scales = [(behind, behind.scale(real)) for behind in quantizers]
    usable = [(float(scale.min()), behind, scale) for behind, scale in scales if scale is not None]
    if not usable:
        raise OnnxImportError(
            f"{node.op_type} reads {node.input[0][:80]!r}, which was not quantized, and nothing behind it is: "
            "put QuantizeLinear and DequantizeLinear before it (quantize all its inputs)",
            node=name,
        )
    _, behind, scale = min(usable, key=lambda entry: entry[0])
    value = build.quantize(real, scale, behind.dtype, f"{name}_quantized")
    if others or any(not are_same(scale, other) for _, _, other in usable) or len(usable) < len(quantizers):
        build.rounded(
            f"{name}_quantized",
            "result",
            0.5,
            f"in steps of {behind.dtype}, which also clips it for readers that do not quantize it so",
        )
    return Real(value, scale, False)


def _images(importer: Importing, node: onnx.NodeProto) -> Real:
    real = importer.real(node, 0)
    _check_images(importer, node, real)
    return real


def _check_images(importer: Importing, node: onnx.NodeProto, found: Real | Stored) -> None:
    if found.flat or found.layout is not None or len(importer.build.types[found.value].shape) != 3:
        raise OnnxImportError(
            f"{node.op_type} of something else than images (N, C, H, W) is not supported", node=label(node)
        )


def _window(importer: Importing, node: onnx.NodeProto, real: Real) -> tuple[Pair, Pair, Padding]:
    kernel = attribute(node, "kernel_shape", [0][:0])
    if len(kernel) != 2 or min(kernel) < 1:
        raise OnnxImportError(f"kernel_shape={kernel[:6]}: only two dimensions are supported", node=label(node))
    stride = pair(node, "strides")
    shape = importer.build.types[real.value].shape
    return Pair(*kernel), stride, padding(node, real, shape, Pair(*kernel), stride, pair(node, "dilations"))
