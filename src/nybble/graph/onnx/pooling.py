"""Pools of an imported model."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import onnx

from nybble.graph.nodes import AvgPool2d, Conv2d, MaxPool2d, Padding, Pair
from nybble.graph.onnx.errors import OnnxImportError
from nybble.graph.onnx.load import attribute, label
from nybble.graph.onnx.values import Constant, Real, Value, are_same
from nybble.graph.onnx.weighted import padding, pair
from nybble.graph.tensor import Tensor
from nybble.graph.types import DType

if TYPE_CHECKING:
    from nybble.graph.onnx.builder import Builder
    from nybble.graph.onnx.importer import Importer

#: Largest window that is summed by a convolution of ones.
_MAX_WINDOW = 1 << 12


def max_pool(importer: Importer, node: onnx.NodeProto) -> Value:
    """MaxPool: the same on integers."""
    real = _images(importer, node)
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
    return replace(real, value=importer.build.add(made), through=None, padding=None)


def average_pool(importer: Importer, node: onnx.NodeProto) -> Value:
    """AveragePool: rounded to the unit it reads, or summed where it is quantized to another one."""
    real = _images(importer, node)
    if pair(node, "dilations") != Pair(1, 1):
        raise OnnxImportError("an average pool with dilation is not supported", node=label(node))
    kernel, stride, around = _window(importer, node, real)
    ceil_mode = bool(attribute(node, "ceil_mode", 0))
    counted = bool(attribute(node, "count_include_pad", 0))
    return _average(importer, node, real, kernel, stride, around, ceil_mode, counted)


def global_average_pool(importer: Importer, node: onnx.NodeProto) -> Value:
    """GlobalAveragePool, or a ReduceMean that is one."""
    real = _images(importer, node)
    flat = False
    if node.op_type == "ReduceMean":
        axes = attribute(node, "axes", [0][:0])
        if importer.has(node, 1):
            axes = [int(value) for value in importer.constant(node, 1, "axes").real.reshape(-1)]
        if sorted(axis % 4 for axis in axes) != [2, 3]:
            raise OnnxImportError(
                f"a mean over axes {axes[:6]} is not supported, only over rows and columns", node=label(node)
            )
        flat = not attribute(node, "keepdims", 1)
    kernel = Pair(*importer.build.types[real.value].shape[1:])
    # One window has no stride, but a graph may say one.
    stride = Pair(*(importer.build.hint(label(node)).stride or (1, 1)))
    return replace(_average(importer, node, real, kernel, stride, Padding(), False, True), flat=flat)


def _average(
    importer: Importer,
    node: onnx.NodeProto,
    real: Real,
    kernel: Pair,
    stride: Pair,
    around: Padding,
    ceil_mode: bool,
    counted: bool,
) -> Real:
    build = importer.build
    reads = build.types[real.value]
    count = kernel.rows * kernel.columns
    has_one_count = around == Padding() or counted
    if _quantized_alike(importer, node, real) or ceil_mode or not has_one_count or count > _MAX_WINDOW:
        made = AvgPool2d(
            name=build.free(label(node)),
            inputs=(real.value,),
            input_type=reads.dtype,
            kernel_size=kernel,
            stride=stride,
            padding=around,
            ceil_mode=ceil_mode,
            count_include_pad=counted,
        )
        if not _quantized_alike(importer, node, real):
            build.rounded(label(node), "mean", 0.5, "in steps of what it reads, before its own QuantizeLinear")
        return replace(real, value=build.add(made), through=None)
    # One rounding, not two: sums, whose scale the division by the count goes into.
    channels = reads.shape[0]
    dtype = DType.S4 if reads.dtype.bits == 4 else DType.S8
    sums = Conv2d(
        name=build.free(label(node)),
        inputs=(real.value,),
        input_type=reads.dtype,
        weight=Tensor.from_array(dtype, np.ones((channels, 1, *kernel), np.int8)),
        stride=stride,
        padding=around,
        groups=channels,
    )
    return Real(build.add(sums), real.unit / count, True)


def moves_halves_alone(build: Builder, real: Real, constant: Constant) -> bool:
    """Whether adding a constant to an average makes its halves go up, as the engine's do, and changes nothing else.

    Averages of n codes are multiples of 1 / n, so that less than half of that moves only what lies at a half.
    """
    pool = build.nodes[-1] if build.nodes else None
    if not isinstance(pool, AvgPool2d) or pool.name != real.value or constant.real.size != 1 or real.is_cut:
        return False
    share = float(constant.real.reshape(-1)[0]) / real.unit
    return bool(np.all((share > 0) & (share < 0.5 / (pool.kernel_size.rows * pool.kernel_size.columns))))


def _quantized_alike(importer: Importer, node: onnx.NodeProto, real: Real) -> bool:
    """Whether the QuantizeLinear behind a pool has the scale of what the pool reads."""
    scale = importer.scale_behind(node)
    return scale is not None and are_same(real.unit, scale)


def _images(importer: Importer, node: onnx.NodeProto) -> Real:
    real = importer.activation(node, 0)
    if real.flat or len(importer.build.types[real.value].shape) != 3:
        raise OnnxImportError(f"{node.op_type} of something else than images is not supported", node=label(node))
    return real


def _window(importer: Importer, node: onnx.NodeProto, real: Real) -> tuple[Pair, Pair, Padding]:
    kernel = attribute(node, "kernel_shape", [0][:0])
    if len(kernel) != 2:
        raise OnnxImportError(f"kernel_shape={kernel[:6]}: only two dimensions are supported", node=label(node))
    stride = pair(node, "strides")
    shape = importer.build.types[real.value].shape
    return Pair(*kernel), stride, padding(node, real, shape, Pair(*kernel), stride, pair(node, "dilations"))
