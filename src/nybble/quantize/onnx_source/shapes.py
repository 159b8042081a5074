"""Pools, and what moves or joins values of an ONNX file."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nybble.graph import Padding, Pair
from nybble.quantize.float_network import AvgPool, Concat, Flat, MaxPool, Op, Pad
from nybble.quantize.onnx_source.handlers import (
    Result,
    Unsupported,
    Value,
    constant_of,
    extents_of,
    handles,
    image_of,
    padding_of,
    pair_of,
    value_of,
)
from nybble.quantize.translate import Translation

#: Of TensorProto.DataType.
FLOAT = 1


# Pools


@handles("MaxPool")
def _max_pool(node: Any, x: Value) -> Result:
    x, window, stride, padding, ceil_mode = _pool(node, x)
    dilation = pair_of(node, "dilations")
    return MaxPool(
        name="",
        inputs=(x.name,),
        shape=(x.shape[0], *extents_of(x, window, stride, padding, dilation, ceil_mode)),
        kernel_size=window,
        stride=stride,
        padding=padding,
        dilation=dilation,
        ceil_mode=ceil_mode,
    )


@handles("AveragePool")
def _average_pool(node: Any, x: Value) -> Result:
    x, window, stride, padding, ceil_mode = _pool(node, x)
    counted = bool(node.get("count_include_pad", 0)) or not any(padding)
    if ceil_mode:
        raise Unsupported("runtimes disagree about averages in ceil mode; export it with ceil_mode=0")
    if not padding.is_symmetric and not counted:
        raise Unsupported("an average over padding that differs from side to side must count it")
    if any(extent != 1 for extent in pair_of(node, "dilations")):
        raise Unsupported("averages of windows with holes have no counterpart")
    return AvgPool(
        name="",
        inputs=(x.name,),
        shape=(x.shape[0], *extents_of(x, window, stride, padding, Pair(1, 1))),
        kernel_size=window,
        stride=stride,
        padding=padding,
        count_include_pad=counted,
    )


@handles("GlobalAveragePool")
def _global_average(node: Any, x: Value) -> Result:
    return _whole(AvgPool, image_of(x))


@handles("GlobalMaxPool")
def _global_maximum(node: Any, x: Value) -> Result:
    return _whole(MaxPool, image_of(x))


@handles("ReduceMean")
def _mean(node: Any, x: Value, axes: Value | None = None) -> Result:
    x = image_of(x)
    given = node.get("axes", []) if axes is None else constant_of(axes, "its axes").reshape(-1).tolist()
    if {axis % 4 for axis in given} != {2, 3}:
        raise Unsupported("means over rows and columns only have a counterpart")
    pool = _whole(AvgPool, x)
    return pool if node.get("keepdims", 1) else (pool, x.shape[:1])


def _whole(kind: type[AvgPool | MaxPool], x: Translation) -> Op:
    window = Pair(x.shape[1], x.shape[2])
    return kind(name="", inputs=(x.name,), shape=(x.shape[0], 1, 1), kernel_size=window, stride=window)


def _pool(node: Any, value: Value) -> tuple[Translation, Pair, Pair, Padding, bool]:
    x = image_of(value)
    given = node.get("kernel_shape", [])
    if len(given) != 2:
        raise Unsupported("its window must have two extents")
    window, stride, dilation = Pair(*given), pair_of(node, "strides"), pair_of(node, "dilations")
    padding = padding_of(node, x, window, stride, dilation)
    down, up = (extents_of(x, window, stride, padding, dilation, mode) for mode in (False, True))
    ceil_mode = bool(node.get("ceil_mode", 0)) and down != up
    if padding.is_symmetric and (padding.top > window.rows // 2 or padding.left > window.columns // 2):
        raise Unsupported("padding beyond half the window has no counterpart in PyTorch")
    return x, window, stride, padding, ceil_mode


# Shape


@handles("Flatten")
def _flatten(node: Any, x: Value) -> Result:
    x = value_of(x)
    if node.get("axis", 1) not in (1, -len(x.shape)):
        raise Unsupported("only flattening from axis 1 on has a counterpart")
    return _flat(x)


@handles("Reshape")
def _reshape(node: Any, x: Value, target: Value) -> Result:
    x = value_of(x)
    wanted: list[int] = constant_of(target, "the new shape").reshape(-1).tolist()
    own = (1, *x.shape)
    if wanted[:1] not in ([0], [1], [-1]) or node.get("allowzero", 0):
        raise Unsupported(f"reshaping to {wanted} does not keep the images apart")
    rest = [own[place] if size == 0 and place < len(own) else size for place, size in enumerate(wanted)][1:]
    known: int = math.prod(size for size in rest if size != -1)
    rest = [math.prod(x.shape) // max(1, known) if size == -1 else size for size in rest]
    if tuple(rest) == x.shape:
        return x
    if rest != [math.prod(x.shape)]:
        raise Unsupported(f"reshaping (N, {', '.join(map(str, x.shape))}) to {wanted} is not flattening")
    return _flat(x)


@handles("Squeeze")
def _squeeze(node: Any, x: Value, axes: Value | None = None) -> Result:
    x = value_of(x)
    given = node.get("axes", []) if axes is None else constant_of(axes, "its axes").reshape(-1).tolist()
    if len(x.shape) != 3 or {axis % 4 for axis in given} != {2, 3} or math.prod(x.shape[1:]) != 1:
        raise Unsupported("only rows and columns of one pixel can be squeezed")
    return _flat(x)


def _flat(x: Translation) -> Result:
    return x if len(x.shape) == 1 else Flat(name="", inputs=(x.name,), shape=(math.prod(x.shape),))


@handles("Slice")
def _slice(
    node: Any, value: Value, starts: Value | None = None, ends: Value | None = None, *more: Value | None
) -> Result:
    x = image_of(value)
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
    for start, end, axis, step in zip(first, last, axes, steps, strict=True):
        size = (node.batch, *x.shape)[axis % 4]
        if start == 0 and step == 1 and end >= size:
            continue
        if start != 0 or step < 1 or axis % 4 not in stride or end < size:
            raise Unsupported("only every so-manieth row and column, from 0 to the end, can be taken")
        stride[axis % 4] = step
    if set(stride.values()) == {1}:
        return x
    steps_taken = Pair(stride[2], stride[3])
    shape = (x.shape[0], *(-(-size // step) for size, step in zip(x.shape[1:], steps_taken, strict=True)))
    return MaxPool(name="", inputs=(x.name,), shape=shape, kernel_size=Pair(1, 1), stride=steps_taken)


@handles("Concat")
def _concat(node: Any, *values: Value) -> Result:
    found = [value for value in values if isinstance(value, Translation)]
    images = [image_of(value) for value in found]
    if node.get("axis") not in (1, -3):
        raise Unsupported("only channels (axis 1) can be joined")
    if len(found) == len(values):
        if len(found) == 1:
            return found[0]
        if any(image.shape[1:] != images[0].shape[1:] for image in images):
            raise Unsupported("images that are joined must have the same rows and columns")
        shape = (sum(image.shape[0] for image in images), *images[0].shape[1:])
        return Concat(name="", inputs=tuple(image.name for image in images), shape=shape)
    zeros = [value for value in values if isinstance(value, np.ndarray) and not value.any()]
    if len(found) != 1 or len(zeros) + 1 != len(values):
        raise Unsupported("of constants, only channels of zeros can be joined with one value")
    place = next(i for i, value in enumerate(values) if value is found[0])
    before, after = (sum(int(zero.shape[1]) for zero in part) for part in (zeros[:place], zeros[place:]))
    return _padded(images[0], Padding(), (before, after))


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
    return _padded(x, sides, (first.get(1, 0), last.get(1, 0)))


def _padded(x: Translation, padding: Padding, channels: tuple[int, int]) -> Result:
    if not any(padding) and not any(channels):
        return x
    shape = (
        x.shape[0] + sum(channels),
        x.shape[1] + padding.top + padding.bottom,
        x.shape[2] + padding.left + padding.right,
    )
    return Pad(name="", inputs=(x.name,), shape=shape, padding=padding, channels=channels)


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


@handles("Softmax", "LogSoftmax")
def _softmax(node: Any, x: Value) -> Result:
    # As the last node: the order of the classes stays, and logits are what is compared and distilled.
    return value_of(x)


@handles("Cast")
def _cast(node: Any, x: Value) -> Result:
    x = value_of(x)
    if node.get("to") != FLOAT:
        raise Unsupported("the network must compute in float32")
    return x


@handles("Shape")
def _shape(node: Any, x: Value) -> Result:
    x = value_of(x)
    # Of the batch that the reader assumes: what is computed from it is the new shape of a Reshape, which the reader
    # holds against that batch.
    full = np.array((node.batch, *x.shape), np.int64)
    return full[slice(node.get("start", 0), node.get("end"))]
