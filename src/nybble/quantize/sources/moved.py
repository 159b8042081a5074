"""Elements that a network moves over axes that no reader can be told of: as indices, until they are images again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from nybble.graph import Pair
from nybble.graph.types import Array
from nybble.quantize.ir import vocabulary
from nybble.quantize.ir.float_network import Concat, Op
from nybble.quantize.ir.vocabulary import Made, MadeStack, Translation

#: Largest number of elements that are tracked.
_MOST = 1 << 24
#: Most images that are taken apart to be stacked.
_MOST_STACKED = 16


@dataclass(frozen=True)
class Moved:
    """The elements of a batch of images in a shape that no value can express.

    Attributes
    ----------
    source : Translation
        The images.
    index : array
        Where each element lies in the batch of them, (N, C, H, W).
    why : str
        The reason why it cannot be read.
    node : str
        The node that made it, by its name in errors.
    """

    source: Translation
    index: Array
    why: str
    node: str


def of_images(x: Translation, batch: int, why: str, node: str) -> Moved | None:
    """Images before anything is moved; ``None`` for other values, and for too many elements."""
    shape = (batch, *x.extents)
    if len(x.extents) != 3 or x.shape != x.extents or not x.is_natural or int(np.prod(shape)) > _MOST:
        return None
    return Moved(x, np.arange(int(np.prod(shape))).reshape(shape), why, node)


def settled_images(moved: Moved, batch: int) -> Made | Translation | None:
    """The source of a value that is made by picking, shuffling and cropping; ``None`` for other values.

    Either channels, rows and columns are picked each for itself, or channels become blocks of pixels, or blocks of
    pixels channels.
    """
    index = moved.index
    if index.ndim != 4 or index.shape[0] != batch or not index.size:
        return None
    for way in (_picked, _to_pixels, _to_channels):
        found = way(moved.source, index)
        if found is not None:
            return found
    return None


def stacked(moved: Moved, batch: int) -> MadeStack | None:
    """The images that a value with one more axis than images consists of; ``None`` for other values."""
    for axis in range(1, moved.index.ndim):
        count = moved.index.shape[axis]
        if not 1 < count <= _MOST_STACKED:
            continue
        parts = [_part(replace(moved, index=moved.index.take(place, axis)), batch) for place in range(count)]
        found = [part for part in parts if part is not None]
        if len(found) == count:
            return MadeStack(tuple(found), axis)
    return None


def _part(moved: Moved, batch: int) -> Made | Translation | None:
    """Images; or vectors of one pixel, with the axes that readers see."""
    if moved.index.ndim == 4:
        return settled_images(moved, batch)
    shape = moved.index.shape[1:]
    if moved.source.extents[1:] != (1, 1) or sum(extent > 1 for extent in shape) > 1:
        return None
    found = settled_images(replace(moved, index=moved.index.reshape(batch, -1, 1, 1)), batch)
    if found is None:
        return None
    axes = tuple((0,) if extent > 1 else () for extent in shape)
    if isinstance(found, Translation):
        return replace(found, axes=axes)
    return replace(found, axes=axes)


def _is(index: Array, extents: tuple[int, ...], channels: Array, rows: Array, columns: Array) -> bool:
    """Whether an element lies at these places, which broadcast to (C, H, W), in its own image."""
    _, high, wide = extents
    if channels.max() >= extents[0]:
        return False
    images = np.arange(len(index)).reshape(-1, 1, 1, 1) * int(np.prod(extents))
    return np.array_equal(index, images + (channels * high + rows) * wide + columns)


def _places(index: Array, extents: tuple[int, ...]) -> tuple[Array, Array, Array]:
    """Channel, row and column of each element of the first image."""
    _, high, wide = extents
    first = index[0]
    return first // (high * wide), first // wide % high, first % wide


def _picked(x: Translation, index: Array) -> Made | Translation | None:
    channels, rows, columns = _places(index, x.extents)
    picked, taken, put = channels[:, :1, :1], rows[:1, :, :1], columns[:1, :1, :]
    if not _is(index, x.extents, picked, taken, put):
        return None
    ranges = [_range(places.reshape(-1)) for places in (taken, put)]
    if ranges[0] is None or ranges[1] is None:
        return None
    ops: list[Op] = []
    source = _local(vocabulary.crop(x, ranges[0], ranges[1]), x, ops, "cropped")
    order = [int(channel) for channel in picked.reshape(-1)]
    if order != list(range(x.extents[0])):
        source = _local(vocabulary.pick(source, 1, order), source, ops, "picked")
    return Made(tuple(ops)) if ops else source


def _to_pixels(x: Translation, index: Array) -> Made | Translation | None:
    _, high, wide = x.extents
    block = Pair(index.shape[2] // high, index.shape[3] // wide)
    if (block.rows * high, block.columns * wide) != index.shape[2:] or block.rows * block.columns < 2:
        return None
    if (high, wide) == (1, 1) and block.rows != block.columns:
        # More likely a vector in parts, which may be stacked, than an oblong image.
        return None
    channels, _, _ = _places(index, x.extents)
    corner = channels[:, : block.rows, : block.columns]
    rows, columns = np.arange(index.shape[2]).reshape(-1, 1), np.arange(index.shape[3])
    if not _is(index, x.extents, np.tile(corner, (1, high, wide)), rows // block.rows, columns // block.columns):
        return None
    order = [int(channel) for channel in corner.reshape(-1)]
    if len(order) != x.extents[0]:
        return None
    found = vocabulary.shuffle(x, block, None if order == list(range(len(order))) else order)
    return found if isinstance(found, Made) else None


def _to_channels(x: Translation, index: Array) -> Made | Translation | None:
    _, high, wide = x.extents
    block = Pair(high // index.shape[2], wide // index.shape[3])
    if (block.rows * index.shape[2], block.columns * index.shape[3]) != (high, wide):
        return None
    channels, rows, columns = (places[:, :1, :1] for places in _places(index, x.extents))
    down, right = np.arange(index.shape[2]).reshape(-1, 1), np.arange(index.shape[3])
    if not _is(index, x.extents, channels, rows + down * block.rows, columns + right * block.columns):
        return None
    parts = [(int(row), int(column)) for row, column in zip(rows.reshape(-1), columns.reshape(-1), strict=True)]
    places = list(dict.fromkeys(parts))
    if any(row >= block.rows or column >= block.columns for row, column in places):
        return None
    ops: list[Op] = []
    crops = [
        _local(
            vocabulary.crop(x, range(row, high, block.rows), range(column, wide, block.columns)), x, ops, f"part{place}"
        )
        for place, (row, column) in enumerate(places)
    ]
    joined = crops[0]
    if len(crops) > 1:
        shape = (x.extents[0] * len(crops), *joined.extents[1:])
        joined = _local(Concat(name="", inputs=tuple(crop.name for crop in crops), shape=shape), x, ops, "joined")
    order = [
        places.index(part) * x.extents[0] + int(channel)
        for part, channel in zip(parts, channels.reshape(-1), strict=True)
    ]
    if order != list(range(joined.extents[0])):
        _local(vocabulary.pick(joined, 1, order), joined, ops, "picked")
    return Made(tuple(ops)) if ops else None


def _range(places: Array) -> range | None:
    """Places in even steps forwards."""
    step = int(places[1] - places[0]) if len(places) > 1 else 1
    found = range(int(places[0]), int(places[-1]) + 1, step) if step > 0 else range(0)
    return found if list(found) == places.tolist() else None


def _local(result: object, source: Translation, ops: list[Op], name: str) -> Translation:
    """Append what a builder returned under a name of its own; what it is called."""
    made: Iterator[Op] = iter(result.ops if isinstance(result, Made) else (result,) if isinstance(result, Op) else ())
    for op in made:
        op.name = name
        ops.append(op)
        return Translation(name, op.shape)
    return source
