"""Builders of operations that move, join or skip values."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from nybble.graph import Padding, Pair
from nybble.graph.ops.pad_edges import most_around
from nybble.quantize.ir.float_network import (
    Concat,
    Conv,
    Crop,
    Enlarge,
    Interpolate,
    MaxPool,
    Op,
    Pad,
    Shuffle,
    Sum,
    Surround,
)
from nybble.quantize.ir.vocabulary.value import (
    Axes,
    Made,
    Result,
    Results,
    Stack,
    Translation,
    Unsupported,
    image,
    seen,
)

_ONLY_CHANNELS = (
    "a concatenation can join channels, rows or columns of images (N, C, H, W) that have the rest in common"
)

#: Weights of the convolution that picks channels.
_MOST_PICKED = 1 << 24


def reshape(x: Translation, shape: Sequence[int]) -> Translation:
    """Another view of the same elements in their order, without the batch: axes are joined or parted again."""
    rest = x.order
    groups: list[tuple[int, ...]] = []
    fits = math.prod(shape) == math.prod(x.extents)
    for extent in shape:
        group: list[int] = []
        if extent == 1 and rest and x.extents[rest[0]] == 1:
            group.append(rest.pop(0))
        while fits and rest and math.prod(x.extents[axis] for axis in group) < extent:
            group.append(rest.pop(0))
        fits = fits and math.prod(x.extents[axis] for axis in group) == extent
        groups.append(tuple(group))
    if not fits or not groups:
        wanted = ", ".join(map(str, ("N", *shape)))
        raise Unsupported(f"reshaping {seen(x)} to ({wanted}) is not flattening: it splits or mixes axes")
    groups[-1] = (*groups[-1], *rest)
    return _viewed(x, tuple(groups))


def reshape_stack(x: Stack, shape: Sequence[int]) -> Made:
    """Another view of all that is stacked: images, or vectors of one pixel, become one with the channels of all."""
    first = x.values[0]
    if x.axis != 1 or any(value.extents != first.extents or not value.is_natural for value in x.values):
        raise Unsupported("only images stacked in front of their channels can be joined by reshaping")
    if len(first.extents) != 3:
        raise Unsupported("only images (N, C, H, W) can be joined by reshaping, not vectors")
    joined = Concat(
        name="",
        inputs=tuple(value.name for value in x.values),
        shape=(first.extents[0] * len(x.values), *first.extents[1:]),
    )
    return Made((joined,), reshape(Translation("", joined.shape), shape).axes)


def expand(x: Translation, shape: Sequence[int]) -> Made | Translation:
    """A value of one pixel repeated along rows and columns."""
    if tuple(shape) == x.shape:
        return x
    rest = [own for own, wanted in zip(x.shape, shape, strict=False) if own != wanted]
    if len(shape) != 3 or len(x.shape) != 3 or x.channel_axis() != 0 or x.extents[1:] not in ((), (1, 1)):
        raise Unsupported("only a value (N, C, 1, 1) can be expanded along rows and columns")
    if any(own != 1 for own in rest) or shape[0] != x.extents[0]:
        raise Unsupported(f"{seen(x)} does not expand to (N, {', '.join(map(str, shape))})")
    # A vector becomes an image where it gates one; `gates` says what else may not be.
    return Made((Enlarge(name="", inputs=(x.name,), shape=tuple(shape), grid="asymmetric"),))


def permute(x: Translation, order: Sequence[int]) -> Translation:
    """Axes in another order, counted with the batch, which stays first."""
    count = len(x.axes) + 1
    places = [axis % count for axis in order]
    if sorted(places) != list(range(count)) or places[0] != 0:
        raise Unsupported(f"axes in the order {tuple(order)} do not leave the batch first")
    return _viewed(x, tuple(x.axes[place - 1] for place in places[1:]))


def squeeze(x: Translation, axes: Sequence[int] | None) -> Translation:
    """Without axes of extent 1: those given that are such, or all."""
    places = range(len(x.axes)) if axes is None else [axis % (len(x.axes) + 1) - 1 for axis in axes]
    gone = {place for place in places if place >= 0 and x.shape[place] == 1}
    kept = [group for place, group in enumerate(x.axes) if place not in gone]
    if not kept:
        raise Unsupported("squeezing leaves nothing but the batch")
    return _viewed(x, tuple(kept))


def unsqueeze(x: Translation, axis: int) -> Translation | Stack:
    """With one more axis of extent 1; before the batch only to be stacked there."""
    place = axis % (len(x.axes) + 2) - 1
    if place < 0:
        return Stack((x,), 0)
    return _viewed(x, (*x.axes[:place], (), *x.axes[place:]))


def select(x: Translation, axis: int, index: int) -> Made | Translation:
    """One element of an axis: of the channels, or the only one."""
    place = x.axis(axis)
    extent = x.shape[place]
    if extent == 1:
        return squeeze(x, [axis])
    if place != x.channel_axis():
        raise Unsupported(f"one element of an axis of {extent} cannot be taken; only channels, or an axis of 1, can")
    made = pick(x, axis, [index % extent])
    return Made(made.ops, tuple(group for at, group in enumerate(made.axes) if at != place))


def pick(x: Translation, axis: int, channels: Sequence[int]) -> Made:
    """Some channels of an image, in any order: a convolution of 1x1, which folding takes out again."""
    place = x.axis(axis)
    image(x)
    if place != 0 or not channels:
        raise Unsupported("only channels of images (axis 1) can be picked out")
    if len(channels) * x.extents[0] > _MOST_PICKED:
        raise Unsupported(f"{len(channels)} of {x.extents[0]} channels are too many to pick")
    weight = torch.zeros(len(channels), x.extents[0], 1, 1)
    weight[range(len(channels)), list(channels)] = 1
    op = Conv(name="", inputs=(x.name,), shape=(len(channels), *x.extents[1:]), weight=weight)
    return Made((op,), ((0,), (1,), (2,)))


def split(x: Translation, axis: int, sizes: Sequence[int]) -> Results:
    """All channels of an image in parts of so many, in their order."""
    extent = x.shape[x.axis(axis)]
    if not sizes or min(sizes) < 1 or sum(sizes) != extent:
        raise Unsupported(f"{extent} channels cannot be split into parts of {', '.join(map(str, sizes[:8]))}")
    if len(sizes) == 1:
        return (x,)
    ends = list(itertools.accumulate(sizes))
    return tuple(pick(x, axis, range(end - size, end)) for size, end in zip(sizes, ends, strict=True))


def split_evenly(x: Translation, axis: int, size: int) -> Results:
    """All channels of an image in parts of so many; the last may have fewer."""
    extent = x.shape[x.axis(axis)]
    return split(x, axis, [min(size, extent - first) for first in range(0, extent, max(1, size))])


def skip(x: Translation, steps: Pair) -> Result:
    """Every n-th row and column, from the first to the end."""
    if steps == (1, 1):
        return x
    x = image(x)
    if min(steps) < 1:
        raise Unsupported("rows and columns can be taken forwards only")
    shape = (x.extents[0], -(-x.extents[1] // steps.rows), -(-x.extents[2] // steps.columns))
    return MaxPool(name="", inputs=(x.name,), shape=shape, kernel_size=Pair(1, 1), stride=steps)


def pad(x: Translation, padding: Padding, channels: tuple[int, int] = (0, 0)) -> Result:
    """Zeros around the image, and channels of zeros before and after; what is below 0 is cut off."""
    if not any(padding) and not any(channels):
        return x
    x = image(x)
    if min(*padding, *channels) < 0:
        return _cut_and_padded(x, padding, channels)
    shape = (
        x.extents[0] + sum(channels),
        x.extents[1] + padding.top + padding.bottom,
        x.extents[2] + padding.left + padding.right,
    )
    return Pad(name="", inputs=(x.name,), shape=shape, padding=padding, channels=channels)


def _cut_and_padded(x: Translation, padding: Padding, channels: tuple[int, int]) -> Result:
    kept = [
        range(max(0, -before), extent + min(0, after))
        for extent, before, after in zip(
            x.extents, (channels[0], *padding[:2]), (channels[1], *padding[2:]), strict=True
        )
    ]
    if not all(kept):
        raise Unsupported(f"padding by {tuple(padding)} and {channels} leaves nothing of {seen(x)}")
    ops: list[Op] = []
    made = _appended(crop(x, kept[1], kept[2]), x, ops)
    if len(kept[0]) < x.extents[0]:
        made = _appended(pick(made, 1, kept[0]), made, ops)
    more = Padding(*(max(0, size) for size in padding))
    _appended(pad(made, more, (max(0, channels[0]), max(0, channels[1]))), made, ops)
    return Made(tuple(ops))


def _appended(result: Result, source: Translation, ops: list[Op]) -> Translation:
    """Append operations that others of the same :class:`Made` will read; the last one's value."""
    made: tuple[Op, ...] = ()
    if isinstance(result, Made):
        made = result.ops
    elif isinstance(result, Op):
        made = (result,)
    for op in made:
        op.name = f"\0{len(ops)}"
        ops.append(op)
    return Translation(ops[-1].name, ops[-1].shape) if made else source


def surround(x: Translation, padding: Padding, mode: str) -> Result:
    """Rows and columns around an image that repeat its own; what is below 0 is cut off first."""
    x = image(x)
    ops: list[Op] = []
    if min(padding) < 0:
        x = _appended(pad(x, Padding(*(min(0, size) for size in padding))), x, ops)
        padding = Padding(*(max(0, size) for size in padding))
    for extent, size in zip((*x.extents[1:], *x.extents[1:]), padding, strict=True):
        most = most_around(mode, extent)
        if most is not None and size > most:
            raise Unsupported(f"padding by {size} in mode {mode} does not fit {extent} rows or columns")
    if any(padding):
        shape = (
            x.extents[0],
            x.extents[1] + padding.top + padding.bottom,
            x.extents[2] + padding.left + padding.right,
        )
        ops.append(Surround(name="", inputs=(x.name,), shape=shape, padding=padding, mode=mode))
    return Made(tuple(ops)) if ops else x


def concat(values: Sequence[Translation | Stack | Tensor], axis: int) -> Result:
    """The channels of several images, one after the other, one value with channels of zeros, or a stack."""
    found = [value for value in values if isinstance(value, Translation)]
    constants = [value for value in values if isinstance(value, Tensor)]
    if len(found) + len(constants) != len(values):
        return _stacked(values, axis)
    first = found[0]
    place = first.axis(axis)
    if len(found) == len(values):
        if len(found) == 1:
            return first
        return _joined(found, place)
    x = image(first)
    if len(found) != 1 or place != 0 or any(bool(constant.any()) for constant in constants):
        raise Unsupported("a concatenation with constants is not supported, except of one value with channels of zeros")
    at = next(i for i, value in enumerate(values) if value is first)
    before, after = (sum(int(zeros.shape[1]) for zeros in part) for part in (constants[:at], constants[at:]))
    return pad(x, Padding(), (before, after))


def stack(values: Sequence[Translation | Tensor], axis: int) -> Result:
    """Values on a new axis, counted with the batch."""
    found = [value for value in values if isinstance(value, Translation)]
    if len(found) != len(values):
        raise Unsupported("only values that depend on the image can be stacked")
    if len({value.shape for value in found}) > 1:
        raise Unsupported("only values of one shape can be stacked")
    return concat([unsqueeze(value, axis) for value in found], axis)


def _stacked(values: Sequence[Translation | Stack | Tensor], axis: int) -> Stack:
    """Values that have the axis already are joined on it."""
    stacks = [value for value in values if isinstance(value, Stack)]
    rank = len(stacks[0].values[0].shape) + 2
    if len(stacks) != len(values) or any(value.axis != axis % rank for value in stacks):
        raise Unsupported("only values stacked on one new axis can be joined, on that axis")
    return Stack(tuple(entry for value in stacks for entry in value.values), stacks[0].axis)


def _joined(values: Sequence[Translation], place: int) -> Result:
    first = values[0]
    if all(not value.axes[place] and value.extents[0] > 1 for value in values):
        # On an axis that each of them got for it.
        axes_before = (*first.axes[:place], *first.axes[place + 1 :])
        return Stack(tuple(Translation(value.name, value.extents, axes_before) for value in values), place + 1)
    if len(first.extents) == 3 and place in (1, 2) and all(value.layout() == ((0,), (1,), (2,)) for value in values):
        return _side_by_side(values, place)
    for value in values:
        if len(value.axes) != len(first.axes) or len(value.extents) != 3:
            raise Unsupported(_ONLY_CHANNELS)
        group = value.axes[place]
        # Channels are the slowest on the axis, so that one value's elements follow the other's. A single channel may
        # have been taken out of the axes.
        channels = group[0] == 0 if group else value.extents[0] == 1 and 0 not in value.order
        if not channels or value.extents[1:] != first.extents[1:] or not value.is_natural:
            raise Unsupported(_ONLY_CHANNELS)
    axes = {tuple(tuple(axis for axis in group if axis) for group in value.layout()) for value in values}
    if len(axes) > 1:
        raise Unsupported(_ONLY_CHANNELS)
    shape = (sum(value.extents[0] for value in values), *first.extents[1:])
    op = Concat(name="", inputs=tuple(value.name for value in values), shape=shape)
    inner = tuple(axis for axis in first.axes[place] if axis)
    return Made((op,), (*first.axes[:place], (0, *inner), *first.axes[place + 1 :]))


def _side_by_side(values: Sequence[Translation], place: int) -> Made:
    """Rows or columns one after the other: the sum of images, each with zeros where the others are."""
    if any(
        value.extents[:place] + value.extents[place + 1 :] != values[0].extents[:place] + values[0].extents[place + 1 :]
        for value in values
    ):
        raise Unsupported(_ONLY_CHANNELS)
    ops: list[Op] = []
    total = sum(value.extents[place] for value in values)
    before, summed = 0, None
    for value in values:
        after = total - before - value.extents[place]
        sides = Padding(before, 0, after, 0) if place == 1 else Padding(0, before, 0, after)
        padded = _appended(pad(value, sides), value, ops)
        summed = (
            padded
            if summed is None
            else _appended(Sum(name="", inputs=(summed.name, padded.name), shape=padded.extents), padded, ops)
        )
        before += value.extents[place]
    return Made(tuple(ops))


def _viewed(x: Translation, axes: Axes) -> Translation:
    return Translation(x.name, x.extents, axes, x.ending)


def crop(x: Translation, rows: range, columns: range) -> Result:
    """Some rows and columns in even steps, forwards."""
    x = image(x)
    if rows == range(x.extents[1]) and columns == range(x.extents[2]):
        return x
    if not rows or not columns or min(rows.step, columns.step) < 1:
        raise Unsupported("rows and columns can be taken forwards only, and one at least")
    return Crop(
        name="",
        inputs=(x.name,),
        shape=(x.extents[0], len(rows), len(columns)),
        start=Pair(rows[0], columns[0]),
        stop=Pair(rows[-1] + 1, columns[-1] + 1),
        step=Pair(rows.step, columns.step),
    )


def shuffle(x: Translation, block: Pair, order: Sequence[int] | None = None) -> Result:
    """Channels that become blocks of pixels, after they were put into an order."""
    x = image(x)
    size = block.rows * block.columns
    if min(block) < 1 or x.extents[0] % size:
        raise Unsupported(f"{x.extents[0]} channels are not divisible into blocks of {block.rows}x{block.columns}")
    ops: list[Op] = []
    source = x.name
    if order is not None:
        picked = pick(x, 1, order).ops[0]
        picked.name = "picked"
        ops.append(picked)
        source = picked.name
    shape = (x.extents[0] // size, x.extents[1] * block.rows, x.extents[2] * block.columns)
    ops.append(Shuffle(name="", inputs=(source,), shape=shape, block=block))
    return Made(tuple(ops))


def resize_nearest(x: Translation, size: Pair, grid: str) -> Result:
    """Another size, by nearest neighbours."""
    x = image(x)
    if size == x.extents[1:] and grid != "align_corners":
        return x
    return Enlarge(name="", inputs=(x.name,), shape=(x.extents[0], *size), grid=grid)


def resize_bilinear(x: Translation, size: Pair, grid: str) -> Result:
    """Another size, by bilinear interpolation."""
    x = image(x)
    if size == x.extents[1:]:
        return x
    if x.extents[1:] == (1, 1):
        return resize_nearest(x, size, "asymmetric")
    return Interpolate(name="", inputs=(x.name,), shape=(x.extents[0], *size), grid=grid)
