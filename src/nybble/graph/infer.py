"""Shape, type and range inference: what a node produces from what it reads, or why it cannot."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import singledispatch

import numpy as np

from nybble.graph.errors import GraphError
from nybble.graph.nodes import (
    Add,
    AvgPool2d,
    Concat,
    Conv2d,
    Input,
    Linear,
    MaxPool2d,
    Node,
    Padding,
    Pair,
    Quantize,
    ReLU,
    Scale,
)
from nybble.graph.tensor import Tensor
from nybble.graph.types import ACTIVATIONS, SUM_LIMIT, SUMS, DType

#: Largest extent of any dimension; far above any image network, far below what overflows an index.
MAX_EXTENT = 1 << 16
#: Largest number of elements of one value of one image.
MAX_ELEMENTS = 1 << 28
MAX_SHIFT = 31


@dataclass(frozen=True)
class ValueType:
    """What inference knows of a value: element type, shape without batch, and largest magnitude."""

    dtype: DType
    shape: tuple[int, ...]
    magnitude: int

    def __str__(self) -> str:
        return f"{self.dtype}[{'x'.join(map(str, self.shape))}]"


def infer_input(entry: Input) -> ValueType:
    """Type of a graph input. Raises GraphError if it is not an activation type or of an absurd shape."""
    if entry.dtype not in ACTIVATIONS:
        raise GraphError(f"an input cannot be {entry.dtype}", node=entry.name)
    _check_shape(entry.shape, entry.name)
    return ValueType(entry.dtype, entry.shape, entry.dtype.magnitude)


def infer(node: Node, inputs: Sequence[ValueType]) -> ValueType:
    """Type, shape and magnitude of a node's output.

    Raises
    ------
    GraphError
        Naming the node and the attribute that does not fit its inputs, or the sum that could pass
        2**31 - 1: the sum of absolute weights times the largest input, plus bias, plus shortcut.
    """
    arity = 1 if not isinstance(node, Add | Concat) else 2
    if len(inputs) != arity and not (isinstance(node, Concat) and len(inputs) > arity):
        several = " or more" if isinstance(node, Concat) else ""
        raise GraphError(
            f"{node.op} reads {arity}{several} value(s), not {len(inputs)}", node=node.name, field="inputs"
        )
    result = _infer(node, inputs)
    _check_shape(result.shape, node.name)
    if not result.dtype.is_float and result.magnitude > SUM_LIMIT:
        raise GraphError(
            f"its worst case reaches {result.magnitude}, beyond the 32-bit limit {SUM_LIMIT}", node=node.name
        )
    return result


def output_extent(size: int, kernel: int, stride: int, before: int, after: int, dilation: int, ceil_mode: bool) -> int:
    """Rows (or columns) a window produces; 0 or less where it does not fit.

    In ceil mode the last window must start inside the input or the padding before it, as in PyTorch.
    """
    span = size + before + after - dilation * (kernel - 1) - 1
    if not ceil_mode:
        return span // stride + 1
    extent = -(-span // stride) + 1
    return extent - 1 if (extent - 1) * stride >= size + before else extent


@singledispatch
def _infer(node: Node, inputs: Sequence[ValueType]) -> ValueType:
    raise GraphError(f"no inference is defined for {node.op}", node=node.name)


@_infer.register
def _(node: Conv2d, inputs: Sequence[ValueType]) -> ValueType:
    (source,) = inputs
    _check_input_type(node, source, node.input_type, ACTIVATIONS)
    _check_weight(node, node.weight, 4)
    channels, rows, columns = _image(node, source)
    if node.groups < 1 or node.out_channels % node.groups:
        raise GraphError(
            f"groups={node.groups} does not divide {node.out_channels} output channels", node=node.name, field="groups"
        )
    if node.in_channels != channels:
        raise GraphError(
            f"takes {node.in_channels} channels, but {node.inputs[0]} has {channels}", node=node.name, field="weight"
        )
    shape = _window(node, rows, columns, node.kernel_size, node.stride, node.padding, node.dilation, False)
    magnitude = _weighted(node, node.weight, node.bias, source)
    return ValueType(DType.S32, (node.out_channels, *shape), magnitude)


@_infer.register
def _(node: Linear, inputs: Sequence[ValueType]) -> ValueType:
    (source,) = inputs
    _check_input_type(node, source, node.input_type, ACTIVATIONS)
    _check_weight(node, node.weight, 2)
    features = math.prod(source.shape)
    if node.weight.shape[1] != features:
        raise GraphError(
            f"takes {node.weight.shape[1]} features, but {node.inputs[0]} has {features}",
            node=node.name,
            field="weight",
        )
    magnitude = _weighted(node, node.weight, node.bias, source)
    return ValueType(DType.S32, (node.weight.shape[0],), magnitude)


@_infer.register
def _(node: ReLU, inputs: Sequence[ValueType]) -> ValueType:
    (source,) = inputs
    _check_input_type(node, source, node.input_type, SUMS)
    magnitude = source.magnitude
    if node.maximum is not None:
        if not 0 <= node.maximum <= SUM_LIMIT:
            raise GraphError(f"maximum={node.maximum} is not in 0..{SUM_LIMIT}", node=node.name, field="maximum")
        magnitude = min(magnitude, node.maximum)
    return ValueType(DType.U31, source.shape, magnitude)


@_infer.register
def _(node: Quantize, inputs: Sequence[ValueType]) -> ValueType:
    (source,) = inputs
    _check_input_type(node, source, node.input_type, (*ACTIVATIONS, *SUMS))
    if node.output_type not in (*ACTIVATIONS, *SUMS):
        raise GraphError(f"cannot quantize to {node.output_type}", node=node.name, field="compute_mode")
    if not 0 <= node.shift <= MAX_SHIFT:
        raise GraphError(f"shift {node.shift} is not in 0..{MAX_SHIFT}", node=node.name, field="shift_bits")
    if node.factor.dtype not in (DType.U16, DType.U32):
        raise GraphError(f"factors cannot be {node.factor.dtype}", node=node.name, field="requant_factor")
    if node.factor.shape != source.shape[:1]:
        raise GraphError(
            f"has {node.factor.size} factors, but {node.inputs[0]} has {source.shape[0]} channels",
            node=node.name,
            field="requant_factor",
        )
    half = (1 << node.shift) >> 1
    magnitude = (source.magnitude * int(node.factor.numpy().max()) + half) >> node.shift
    if node.output_type in ACTIVATIONS:
        magnitude = min(magnitude, node.output_type.magnitude)
    return ValueType(node.output_type, source.shape, magnitude)


@_infer.register
def _(node: MaxPool2d, inputs: Sequence[ValueType]) -> ValueType:
    (source,) = inputs
    _check_input_type(node, source, node.input_type, ACTIVATIONS)
    channels, rows, columns = _image(node, source)
    shape = _window(node, rows, columns, node.kernel_size, node.stride, node.padding, node.dilation, node.ceil_mode)
    _check_pool_padding(node, node.kernel_size, node.padding, node.dilation)
    # A dilated window that starts in the padding before the image may step over a small image.
    for size, count, before, stride, dilation in zip(
        (rows, columns), shape, node.padding[:2], node.stride, node.dilation, strict=True
    ):
        if any(start % dilation >= size for start in range(-before, min(0, count * stride - before), stride)):
            raise GraphError(
                f"dilation={tuple(node.dilation)} leaves windows with nothing but padding",
                node=node.name,
                field="dilation",
            )
    return ValueType(source.dtype, (channels, *shape), source.magnitude)


@_infer.register
def _(node: AvgPool2d, inputs: Sequence[ValueType]) -> ValueType:
    (source,) = inputs
    _check_input_type(node, source, node.input_type, ACTIVATIONS)
    channels, rows, columns = _image(node, source)
    shape = _window(node, rows, columns, node.kernel_size, node.stride, node.padding, Pair(1, 1), node.ceil_mode)
    _check_pool_padding(node, node.kernel_size, node.padding, Pair(1, 1))
    if node.kernel_size.rows * node.kernel_size.columns > 1 << 22:
        raise GraphError("window is too large to sum in 32 bits", node=node.name, field="kernel_size")
    return ValueType(source.dtype, (channels, *shape), source.magnitude)


@_infer.register
def _(node: Add, inputs: Sequence[ValueType]) -> ValueType:
    left, right = inputs
    for source in inputs:
        if source.dtype not in SUMS:
            raise GraphError(f"cannot add {source.dtype}, only s32 and u31", node=node.name, field="inputs")
    if left.shape != right.shape:
        raise GraphError(f"cannot add {left} and {right}: the shapes differ", node=node.name, field="inputs")
    return ValueType(DType.S32, left.shape, left.magnitude + right.magnitude)


@_infer.register
def _(node: Concat, inputs: Sequence[ValueType]) -> ValueType:
    first = inputs[0]
    for name, source in zip(node.inputs, inputs, strict=True):
        if source.dtype is not node.input_type or source.dtype not in ACTIVATIONS:
            raise GraphError(
                f"is declared to join {node.input_type}, but {name} is {source.dtype}",
                node=node.name,
                field="compute_mode",
            )
        if source.shape[1:] != first.shape[1:]:
            raise GraphError(
                f"cannot join {first} and {source}: they differ in more than channels", node=node.name, field="inputs"
            )
    channels = sum(source.shape[0] for source in inputs)
    return ValueType(first.dtype, (channels, *first.shape[1:]), max(source.magnitude for source in inputs))


@_infer.register
def _(node: Scale, inputs: Sequence[ValueType]) -> ValueType:
    (source,) = inputs
    if source.dtype not in SUMS:
        raise GraphError(f"cannot scale {source.dtype}, only s32 and u31", node=node.name, field="inputs")
    if node.out_scale.dtype is not DType.F32:
        raise GraphError(f"out_scale is {node.out_scale.dtype}, not f32", node=node.name, field="out_scale")
    if node.out_scale.shape != source.shape[:1]:
        raise GraphError(
            f"has {node.out_scale.size} scales, but {node.inputs[0]} has {source.shape[0]} channels",
            node=node.name,
            field="out_scale",
        )
    scales = node.out_scale.numpy()
    if not np.all(np.isfinite(scales)) or np.any(scales == 0):
        raise GraphError("out_scale holds zero, NaN or infinity", node=node.name, field="out_scale")
    return ValueType(DType.F32, source.shape, 0)


def _check_input_type(node: Node, source: ValueType, declared: DType, allowed: tuple[DType, ...]) -> None:
    if declared not in allowed:
        raise GraphError(f"{node.op} cannot read {declared}", node=node.name, field="compute_mode")
    if declared is not source.dtype and not (declared is DType.S32 and source.dtype is DType.U31):
        raise GraphError(
            f"is declared to read {declared}, but {node.inputs[0]} is {source.dtype}",
            node=node.name,
            field="compute_mode",
        )


def _check_weight(node: Node, weight: Tensor, rank: int) -> None:
    if weight.dtype not in (DType.S4, DType.S8):
        raise GraphError(f"weights cannot be {weight.dtype}", node=node.name, field="weight")
    if len(weight.shape) != rank or min(weight.shape) < 1:
        raise GraphError(f"weight of shape {weight.shape} needs {rank} dimensions", node=node.name, field="weight")


def _weighted(node: Node, weight: Tensor, bias: Tensor | None, source: ValueType) -> int:
    """Largest magnitude of the weighted sum: input times the sum of |weight|, plus |bias|."""
    flat = weight.numpy().reshape(weight.shape[0], -1)
    # |s8| reaches 128, so it needs the unsigned view of the int8 result.
    sums = np.abs(flat).view(np.uint8).sum(axis=1, dtype=np.int64)
    worst = [source.magnitude * int(total) for total in sums]
    if bias is not None:
        if bias.dtype not in (DType.S16, DType.S32):
            raise GraphError(f"bias cannot be {bias.dtype}", node=node.name, field="bias")
        if bias.shape != weight.shape[:1]:
            raise GraphError(
                f"has {bias.size} biases for {weight.shape[0]} output channels", node=node.name, field="bias"
            )
        worst = [total + abs(int(value)) for total, value in zip(worst, bias.numpy(), strict=True)]
    return max(worst)


def _image(node: Node, source: ValueType) -> tuple[int, int, int]:
    if len(source.shape) != 3:
        raise GraphError(f"reads images, but {node.inputs[0]} is {source}", node=node.name, field="inputs")
    channels, rows, columns = source.shape
    return channels, rows, columns


def _window(
    node: Node, rows: int, columns: int, kernel: Pair, stride: Pair, padding: Padding, dilation: Pair, ceil_mode: bool
) -> tuple[int, int]:
    for field, pair, least in (("kernel_size", kernel, 1), ("stride", stride, 1), ("dilation", dilation, 1)):
        if min(pair) < least or max(pair) > MAX_EXTENT:
            raise GraphError(f"{field}={tuple(pair)} is not in {least}..{MAX_EXTENT}", node=node.name, field=field)
    if min(padding) < 0 or max(padding) > MAX_EXTENT:
        raise GraphError(f"padding={tuple(padding)} is not in 0..{MAX_EXTENT}", node=node.name, field="padding")
    shape = (
        output_extent(rows, kernel.rows, stride.rows, padding.top, padding.bottom, dilation.rows, ceil_mode),
        output_extent(
            columns, kernel.columns, stride.columns, padding.left, padding.right, dilation.columns, ceil_mode
        ),
    )
    if min(shape) < 1:
        raise GraphError(
            f"a window of {kernel.rows}x{kernel.columns} does not fit {rows}x{columns} with padding {tuple(padding)}",
            node=node.name,
            field="kernel_size",
        )
    return shape


def _check_pool_padding(node: Node, kernel: Pair, padding: Padding, dilation: Pair) -> None:
    # Less padding than the window spans means that no window lies wholly in padding.
    spans = (dilation.rows * (kernel.rows - 1), dilation.columns * (kernel.columns - 1))
    if max(padding.top, padding.bottom) > spans[0] or max(padding.left, padding.right) > spans[1]:
        raise GraphError(
            f"padding {tuple(padding)} leaves windows with nothing but padding", node=node.name, field="padding"
        )


def _check_shape(shape: tuple[int, ...], name: str) -> None:
    if len(shape) not in (1, 3) or min(shape) < 1 or max(shape) > MAX_EXTENT or math.prod(shape) > MAX_ELEMENTS:
        raise GraphError(
            f"shape {shape} is not one or three extents of 1..{MAX_EXTENT}, {MAX_ELEMENTS} elements at most", node=name
        )
