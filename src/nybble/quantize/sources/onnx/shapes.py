"""Pools, and what moves or joins values of an ONNX file."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nybble.graph import Padding, Pair
from nybble.quantize.ir import vocabulary
from nybble.quantize.ir.vocabulary import Results, Stack, Translation
from nybble.quantize.sources.onnx.handlers import (
    Result,
    Unsupported,
    Value,
    constant_of,
    extents_of,
    handles,
    image_of,
    operand_of,
    padding_of,
    pair_of,
    value_of,
)

#: Of TensorProto.DataType.
FLOAT = 1


# Pools


@handles("MaxPool")
def _max_pool(node: Any, x: Value) -> Result:
    image, window, stride, padding = _pool(node, x)
    ceil_mode = bool(node.get("ceil_mode", 0))
    return vocabulary.max_pool(image, window, stride, padding, pair_of(node, "dilations"), ceil_mode)


@handles("AveragePool")
def _average_pool(node: Any, x: Value) -> Result:
    image, window, stride, padding = _pool(node, x)
    counted = bool(node.get("count_include_pad", 0)) or not any(padding)
    if any(extent != 1 for extent in pair_of(node, "dilations")):
        raise Unsupported("averages of windows with holes have no counterpart")
    down, up = (extents_of(image, window, stride, padding, Pair(1, 1), mode) for mode in (False, True))
    ceil_mode = bool(node.get("ceil_mode", 0))
    if ceil_mode and down != up:
        raise Unsupported("runtimes disagree about averages in ceil mode; export it with ceil_mode=0")
    return vocabulary.average_pool(image, window, stride, padding, ceil_mode, counted)


@handles("GlobalAveragePool")
def _global_average(node: Any, x: Value) -> Result:
    return vocabulary.mean(image_of(x), (2, 3), keepdim=True)


@handles("GlobalMaxPool")
def _global_maximum(node: Any, x: Value) -> Result:
    return vocabulary.largest(image_of(x), (2, 3), keepdim=True)


@handles("ReduceMean")
def _mean(node: Any, x: Value, axes: Value | None = None) -> Result:
    return _reduced(vocabulary.mean, node, x, axes)


@handles("ReduceSum")
def _total(node: Any, x: Value, axes: Value | None = None) -> Result:
    return _reduced(vocabulary.total, node, x, axes)


@handles("ReduceMax")
def _largest(node: Any, x: Value, axes: Value | None = None) -> Result:
    return _reduced(vocabulary.largest, node, x, axes)


def _reduced(build: Callable[[Any, Sequence[int], bool], Result], node: Any, x: Value, axes: Value | None) -> Result:
    value = x if isinstance(x, Stack) and build is not vocabulary.largest else value_of(x)
    return build(value, _axes(node, axes), bool(node.get("keepdims", 1)))


def _pool(node: Any, value: Value) -> tuple[Translation, Pair, Pair, Padding]:
    x = image_of(value)
    given = node.get("kernel_shape", [])
    if len(given) != 2:
        raise Unsupported("its window must have two extents")
    window, stride, dilation = Pair(*given), pair_of(node, "strides"), pair_of(node, "dilations")
    return x, window, stride, padding_of(node, x, window, stride, dilation)


def _axes(node: Any, axes: Value | None) -> list[int]:
    """Axes as an attribute, or as an input since opset 13 or 18."""
    found: list[int] = node.get("axes", []) if axes is None else constant_of(axes, "its axes").reshape(-1).tolist()
    return found


# Shape


@handles("Flatten")
def _flatten(node: Any, x: Value) -> Result:
    x = value_of(x)
    if node.get("axis", 1) not in (1, -len(x.shape)):
        raise Unsupported("only flattening from axis 1 on has a counterpart")
    return vocabulary.reshape(x, (math.prod(x.shape),))


@handles("Reshape")
def _reshape(node: Any, x: Value, target: Value) -> Result:
    """The reader says the new shape for one image, its extents resolved."""
    wanted: list[int] = constant_of(target, "the new shape").reshape(-1).tolist()
    return vocabulary.reshape(value_of(x), wanted[1:])


@handles("Transpose")
def _transpose(node: Any, x: Value) -> Result:
    x = value_of(x)
    return vocabulary.permute(x, node.get("perm", list(range(len(x.shape) + 1))[::-1]))


@handles("Squeeze")
def _squeeze(node: Any, x: Value, axes: Value | None = None) -> Result:
    x = value_of(x)
    given = _axes(node, axes)
    if any(x.shape[x.axis(axis)] != 1 for axis in given):
        raise Unsupported("only axes of 1 can be squeezed")
    return vocabulary.squeeze(x, given)


@handles("Unsqueeze")
def _unsqueeze(node: Any, x: Value, axes: Value | None = None) -> Result:
    x = value_of(x)
    given = _axes(node, axes)
    rank = len(x.shape) + 1 + len(given)
    result: Translation | Stack = x
    for axis in sorted(axis % rank for axis in given):
        result = vocabulary.unsqueeze(value_of(result), axis)
    return result


@handles("Gather")
def _gather(node: Any, x: Value, index: Value) -> Result:
    x, places = value_of(x), constant_of(index, "its indices")
    axis = node.get("axis", 0)
    extent = x.shape[x.axis(axis)]
    if places.dtype.kind not in "iu" or places.ndim > 1 or any(not -extent <= place < extent for place in places.flat):
        raise Unsupported(f"its indices are not such of {extent} elements")
    if places.ndim:
        return vocabulary.pick(x, axis, [int(place) % extent for place in places])
    return vocabulary.select(x, axis, int(places))


@handles("Slice")
def _slice(
    node: Any, value: Value, starts: Value | None = None, ends: Value | None = None, *more: Value | None
) -> Result:
    x = value_of(value)
    if starts is None or ends is None:
        first, last = node.get("starts", []), node.get("ends", [])
        axes, steps = node.get("axes", list(range(len(first)))), [1] * len(first)
    else:
        first, last = (constant_of(entry, "its ends").reshape(-1).tolist() for entry in (starts, ends))
        given = [None if entry is None else constant_of(entry, "its axes and steps").reshape(-1) for entry in more]
        axes, steps = (
            default if entry is None else entry.tolist()
            for entry, default in zip((*given, None, None), (list(range(len(first))), [1] * len(first)), strict=False)
        )
    if not len(first) == len(last) == len(axes) == len(steps):
        raise Unsupported("its starts, ends, axes and steps must be of one length")
    stride = {2: 1, 3: 1}
    rank = len(x.shape) + 1
    for start, end, axis, step in zip(first, last, axes, steps, strict=True):
        size = (node.batch, *x.shape)[axis % rank]
        if start == 0 and step == 1 and end >= size:
            continue
        if axis % rank == 1 and rank == 4 and step != 0:
            if len(first) > 1:
                raise Unsupported("channels and rows cannot be taken at once; slice twice")
            return vocabulary.pick(x, 1, range(size)[start:end:step])
        if start != 0 or step < 1 or axis % rank not in stride or end < size:
            raise Unsupported("only every n-th row and column, from 0 to the end, can be taken")
        stride[axis % rank] = step
    return x if set(stride.values()) == {1} else vocabulary.skip(image_of(x), Pair(stride[2], stride[3]))


@handles("Split")
def _split(node: Any, x: Value, sizes: Value | None = None) -> Results:
    x, axis, count = value_of(x), node.get("axis", 0), len(node.outputs)
    given = node.get("split") if sizes is None else constant_of(sizes, "its sizes").reshape(-1).tolist()
    if given is None:
        parts = vocabulary.split_evenly(x, axis, -(-x.shape[x.axis(axis)] // count))
    else:
        parts = vocabulary.split(x, axis, given)
    if len(parts) != count:
        raise Unsupported(f"it has {count} outputs for {len(parts)} parts")
    return parts


@handles("Concat")
def _concat(node: Any, *values: Value) -> Result:
    given = [value if isinstance(value, Stack) else operand_of(value) for value in values]
    return vocabulary.concat(given, node.get("axis"))


@handles("Pad")
def _pad(
    node: Any, value: Value, pads: Value | None = None, filling: Value | None = None, axes: Value | None = None
) -> Result:
    x = image_of(value)
    given = node.get("pads", []) if pads is None else constant_of(pads, "its sides").reshape(-1).tolist()
    fill = node.get("value", 0.0) if filling is None else float(constant_of(filling, "its filling").reshape(-1)[0])
    named = [axis % 4 for axis in (range(4) if axes is None else constant_of(axes, "its axes").reshape(-1).tolist())]
    if node.get("mode", "constant") != "constant" or fill != 0 or len(given) != 2 * len(named) or min(given) < 0:
        raise Unsupported("only padding with zeros has a counterpart")
    first = dict(zip(named, given[: len(named)], strict=True))
    last = dict(zip(named, given[len(named) :], strict=True))
    if first.get(0) or last.get(0):
        raise Unsupported("images cannot be added to the batch")
    sides = Padding(first.get(2, 0), first.get(3, 0), last.get(2, 0), last.get(3, 0))
    return vocabulary.pad(x, sides, (first.get(1, 0), last.get(1, 0)))


# What changes nothing


@handles("Identity")
def _identity(node: Any, x: Value) -> Result:
    return value_of(x)


@handles("Dropout")
def _dropout(node: Any, x: Value, rate: Value | None = None, training: Value | None = None) -> Result:
    x = value_of(x)
    if training is not None and bool(constant_of(training, "its mode").any()):
        raise Unsupported("export the network in evaluation mode")
    return x


@handles("Cast")
def _cast(node: Any, x: Value) -> Result:
    x = value_of(x)
    if node.get("to") != FLOAT:
        raise Unsupported("the network must compute in float32: take the cast out before exporting it")
    return x


@handles("Shape")
def _shape(node: Any, x: Value) -> Result:
    x = value_of(x)
    # Of the batch that the reader assumes: what is computed from it is the new shape of a Reshape, which the reader
    # holds against that batch.
    full = np.array((node.batch, *x.shape), np.int64)
    return full[slice(node.get("start", 0), node.get("end"))]
