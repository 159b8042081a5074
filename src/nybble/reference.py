"""The integer interpreter in NumPy: it defines what every network returns, bit for bit.

It shares no code with the engine. Matrix products run in floating point, where they are exact as long as no partial
sum can leave the range in which every integer is a float: :func:`_exact_float` decides that from the weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import singledispatch

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from nybble.graph import (
    Add,
    AvgPool2d,
    Concat,
    Conv2d,
    DType,
    Graph,
    Input,
    Linear,
    MaxPool2d,
    Node,
    Padding,
    Pair,
    Quantize,
    ReLU,
    Scale,
    Tensor,
    ValueType,
)
from nybble.graph.types import Array

#: Elements of the unrolled windows that a convolution holds at a time.
_WINDOW_ELEMENTS = 1 << 23
#: Elements requantized at a time: their 64-bit products stay in a core's second-level cache.
_QUANTIZE_ELEMENTS = 1 << 15


def interpret(
    graph: Graph, inputs: Array | Mapping[str, Array], *, keep: Iterable[str] | None = ()
) -> dict[str, Array]:
    """Run a graph on integer input.

    Parameters
    ----------
    graph : Graph
    inputs : ndarray or mapping of str to ndarray
        Integers of shape (N, C, H, W), any integer dtype, in the range of the input's type. A graph of several inputs
        takes a mapping from their names, all of one N.
    keep : iterable of str, optional
        Names of further values to return; ``None`` for every value. Others are freed once nothing reads them.

    Returns
    -------
    dict of str to ndarray
        The graph's outputs and what ``keep`` names, in the order in which they are computed, batch
        first, in the dtype ``graph.values[name].dtype.storage``.

    Raises
    ------
    ValueError
        If an input is missing, unknown, of the wrong shape or dtype, or out of range, or if ``keep`` names no value.
    """
    names = set(graph.values) if keep is None else set(keep)
    if unknown := sorted(names - graph.values.keys()):
        raise ValueError(f"the graph has no value named {unknown[0]!r}")
    names.update(graph.outputs)
    live = _checked(graph.inputs, inputs)
    last_reader = {name: node.name for node in graph.nodes for name in node.inputs}
    results = {name: value for name, value in live.items() if name in names}
    for node in graph.nodes:
        value = compute(node, [graph.values[name] for name in node.inputs], [live[name] for name in node.inputs])
        live[node.name] = value
        if node.name in names:
            results[node.name] = value
        for name in {node.name, *node.inputs}:
            if last_reader.get(name, node.name) == node.name:
                del live[name]
    return results


def _checked(entries: Sequence[Input], inputs: Array | Mapping[str, Array]) -> dict[str, Array]:
    """The inputs by name in their storage type, or a ValueError that says what was expected."""
    if not isinstance(inputs, Mapping):
        if len(entries) != 1:
            raise ValueError(f"the graph has {len(entries)} inputs; pass a mapping from their names")
        inputs = {entries[0].name: inputs}
    wanted = {entry.name for entry in entries}
    if wanted != inputs.keys():
        raise ValueError(f"expected inputs {sorted(wanted)}, got {sorted(inputs)}")
    checked: dict[str, Array] = {}
    for entry in entries:
        array = np.asarray(inputs[entry.name])
        shape = "x".join(map(str, entry.shape))
        if array.dtype.kind not in "iu" or array.shape[1:] != entry.shape or array.ndim != len(entry.shape) + 1:
            raise ValueError(
                f"input {entry.name!r} must be integers of shape (N, {', '.join(map(str, entry.shape))}), "
                f"got {array.dtype} of shape {array.shape}"
            )
        low, high = entry.dtype.minimum, entry.dtype.maximum
        if array.size and (int(array.min()) < low or int(array.max()) > high):
            raise ValueError(
                f"input {entry.name!r} is {entry.dtype}[{shape}]: expected {low}..{high}, "
                f"got {array.min()}..{array.max()}"
            )
        checked[entry.name] = array.astype(entry.dtype.storage)
    sizes = {name: len(array) for name, array in checked.items()}
    if len(set(sizes.values())) != 1:
        raise ValueError(f"the inputs differ in batch size: {sizes}")
    return checked


@singledispatch
def compute(node: Node, types: Sequence[ValueType], values: Sequence[Array]) -> Array:
    """One node's output for a batch, from the types and the arrays (batch first) of what it reads.

    The node must be valid for those types (``nybble.graph.infer``) and the arrays in their range; nothing is checked.
    """
    raise NotImplementedError(f"the reference does not know {node.op}")


@compute.register
def _(node: Conv2d, types: Sequence[ValueType], values: Sequence[Array]) -> Array:
    (images,) = values
    weight = node.weight.numpy().reshape(node.groups, node.out_channels // node.groups, -1)
    number = _exact_float(types[0], weight)
    weight = weight.astype(number)
    bias = _bias(node.bias, node.out_channels)[:, None, None]
    spans = [dilation * (kernel - 1) + 1 for dilation, kernel in zip(node.dilation, node.kernel_size, strict=True)]
    height, width = (
        len(_starts(size, before, after, span, stride, False))
        for size, (before, after), span, stride in zip(
            images.shape[2:], _sides(node.padding), spans, node.stride, strict=True
        )
    )
    result = np.empty((len(images), node.out_channels, height, width), np.int32)
    block = max(1, _WINDOW_ELEMENTS // (node.in_channels * node.kernel_size.rows * node.kernel_size.columns * width))
    for image, sums in zip(images, result, strict=True):
        windows = sliding_window_view(_pad_zero(image.astype(number), node.padding), spans, axis=(1, 2))
        windows = windows[
            :, :: node.stride.rows, :: node.stride.columns, :: node.dilation.rows, :: node.dilation.columns
        ]
        taps = windows.transpose(0, 3, 4, 1, 2)
        for top in range(0, height, block):
            # One column a pixel, with its window's samples in the order of the weights.
            rows = taps[:, :, :, top : top + block]
            columns = rows.reshape(node.groups, weight.shape[2], -1)
            sums[:, top : top + block] = np.matmul(weight, columns).reshape(node.out_channels, -1, width)
    result += bias
    return result


@compute.register
def _(node: Linear, types: Sequence[ValueType], values: Sequence[Array]) -> Array:
    (features,) = values
    weight = node.weight.numpy()
    number = _exact_float(types[0], weight)
    flat = features.reshape(len(features), weight.shape[1]).astype(number)
    sums = np.matmul(flat, weight.astype(number).T)
    result: Array = sums.astype(np.int32) + _bias(node.bias, len(weight))
    return result


def _exact_float(source: ValueType, weight: Array) -> type[np.float32] | type[np.float64]:
    """The narrowest float in which sums over the weight's last axis are exact, in whatever order they are added up.

    No partial sum exceeds ``largest input * sum |weight|``. Integers up to 2**24 are exact in float32; beyond that
    float64 is, as the sums of a valid graph stay below 2**31. The bias is added in integers.
    """
    sums = np.abs(weight.astype(np.int16)).sum(axis=-1, dtype=np.int64)
    bound = source.dtype.magnitude * int(sums.max())
    return np.float32 if bound <= 1 << 24 else np.float64


def _bias(bias: Tensor | None, channels: int) -> Array:
    return np.zeros(channels, np.int32) if bias is None else bias.numpy().astype(np.int32)


def _pad_zero(image: Array, padding: Padding) -> Array:
    if not any(padding):
        return image
    return np.pad(image, ((0, 0), (padding.top, padding.bottom), (padding.left, padding.right)))


@compute.register
def _(node: Quantize, types: Sequence[ValueType], values: Sequence[Array]) -> Array:
    (source,) = values
    # Every product fits 64 bits with its rounding term: (2**31 - 1) * (2**32 - 1) + 2**30 < 2**63.
    factor = node.factor.numpy().astype(np.int64)[:, None]
    half = (1 << node.shift) >> 1
    target = node.output_type
    channels = source.shape[1]
    flat = source.reshape(len(source), channels, int(np.prod(source.shape[2:])))
    result = np.empty(flat.shape, target.storage)
    block = max(1, _QUANTIZE_ELEMENTS // flat.shape[2])
    for image, quantized in zip(flat, result, strict=True):
        for first in range(0, channels, block):
            some = slice(first, first + block)
            product = image[some] * factor[some]
            magnitude = (np.abs(product) + half) >> node.shift
            rounded = np.negative(magnitude, out=magnitude, where=product < 0)
            quantized[some] = np.clip(rounded, target.minimum, target.maximum)
    return result.reshape(source.shape)


@compute.register
def _(node: ReLU, types: Sequence[ValueType], values: Sequence[Array]) -> Array:
    positive = np.maximum(values[0], np.int32(0))
    return positive if node.maximum is None else np.minimum(positive, np.int32(node.maximum))


@compute.register
def _(node: Add, types: Sequence[ValueType], values: Sequence[Array]) -> Array:
    # A valid graph bounds the sum by 2**31 - 1.
    left, right = values
    result: Array = left + right
    return result


@compute.register
def _(node: Concat, types: Sequence[ValueType], values: Sequence[Array]) -> Array:
    joined: Array = np.concatenate(values, axis=1)
    return joined


@compute.register
def _(node: MaxPool2d, types: Sequence[ValueType], values: Sequence[Array]) -> Array:
    # The maximum over a window is the maximum over its rows of the maximum over its columns.
    (images,) = values
    pooled = images
    for axis, (before, after) in zip((2, 3), _sides(node.padding), strict=True):
        index = axis - 2
        reach = node.dilation[index] * (node.kernel_size[index] - 1)
        starts = _starts(images.shape[axis], before, after, reach + 1, node.stride[index], node.ceil_mode)
        pooled = _window_maximum(pooled, axis, starts, node.dilation[index], node.kernel_size[index], types[0].dtype)
    return pooled


def _window_maximum(values: Array, axis: int, starts: Array, dilation: int, kernel: int, dtype: DType) -> Array:
    """Largest of ``kernel`` samples, ``dilation`` apart, from each start on; samples outside count as the least."""
    size = values.shape[axis]
    shape = list(values.shape)
    shape[axis] = len(starts)
    result = np.full(shape, dtype.minimum, dtype.storage)
    for tap in range(kernel):
        positions = starts + tap * dilation
        inside = np.flatnonzero((positions >= 0) & (positions < size))
        if len(inside):
            # Positions rise with a constant step, so those inside are one stretch of the outputs.
            some = [slice(None)] * values.ndim
            some[axis] = slice(inside[0], inside[-1] + 1)
            target = result[tuple(some)]
            np.maximum(target, values.take(positions[inside], axis), out=target)
    return result


@compute.register
def _(node: AvgPool2d, types: Sequence[ValueType], values: Sequence[Array]) -> Array:
    (images,) = values
    sums = images.astype(np.int64)
    counts = []
    for axis, (before, after) in zip((2, 3), _sides(node.padding), strict=True):
        kernel, stride, size = node.kernel_size[axis - 2], node.stride[axis - 2], images.shape[axis]
        first = _starts(size, before, after, kernel, stride, node.ceil_mode)
        # The window [first, end) is cut at the padded extent, as in PyTorch, which matters in ceil mode.
        end = np.minimum(first + kernel, size + after)
        low, high = np.maximum(first, 0), np.minimum(end, size)
        counts.append(end - first if node.count_include_pad else high - low)
        # A window's sum is the difference of two prefix sums.
        prefix = np.insert(np.cumsum(sums, axis=axis), 0, 0, axis=axis)
        sums = prefix.take(high, axis) - prefix.take(low, axis)
    count = np.outer(*counts)
    averages: Array = (2 * sums + count) // (2 * count)
    return averages.astype(types[0].dtype.storage)


def _sides(padding: Padding) -> tuple[Pair, Pair]:
    """Padding before and after, for rows and for columns."""
    return Pair(padding.top, padding.bottom), Pair(padding.left, padding.right)


def _starts(size: int, before: int, after: int, span: int, stride: int, ceil_mode: bool) -> Array:
    """Index of each window's first sample; negative in the padding before.

    Windows start every ``stride`` samples from ``-before`` on and end by ``size + after``. In ceil mode the last may
    run past that end as long as it starts before ``size``.
    """
    end = size + after
    starts = np.arange(-before, end - span + 1, stride)
    if ceil_mode:
        following = -before + len(starts) * stride
        if following < size and following - stride + span < end:
            starts = np.append(starts, following)
    return starts


@compute.register
def _(node: Scale, types: Sequence[ValueType], values: Sequence[Array]) -> Array:
    (sums,) = values
    scale = node.out_scale.numpy().reshape(-1, *(1,) * (sums.ndim - 2))
    with np.errstate(over="ignore", under="ignore"):
        result: Array = sums.astype(np.float32) / scale
    return result
