"""Channels that are shuffled by reshaping and transposing a whole batch: as indices, until they are channels again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nybble.graph.types import Array
from nybble.quantize.ir import vocabulary
from nybble.quantize.ir.vocabulary import Made, Translation, Unsupported

#: Most elements that are followed.
_MOST = 1 << 24


@dataclass(frozen=True)
class Moved:
    """The elements of a batch of images in a shape that readers cannot be told.

    Attributes
    ----------
    source : Translation
        The images.
    index : array
        Where each element lies in the batch of them, (N, C, H, W).
    why : str
        What forbids to read it.
    node : str
        The node that made it, as errors call it.
    """

    source: Translation
    index: Array
    why: str
    node: str


def follow(node: Any, inputs: Sequence[Any], why: str) -> Moved | None:
    """What a node that only moves elements makes of images, or of what another one moved; ``None`` of all else."""
    x = inputs[0] if inputs else None
    move = _MOVES.get(node.op)
    if move is None or not isinstance(x, Translation | Moved):
        return None
    if isinstance(x, Translation):
        shape = (node.batch, *x.extents)
        if len(x.extents) != 3 or x.shape != x.extents or not x.is_natural or int(np.prod(shape)) > _MOST:
            return None
        x = Moved(x, np.arange(int(np.prod(shape))).reshape(shape), why, node.label)
    if not all(isinstance(entry, np.ndarray) for entry in inputs[1:]):
        return None
    try:
        index = move(node, x.index, *inputs[1:])
    except (ValueError, IndexError, TypeError):
        return None
    return Moved(x.source, index, x.why, x.node)


def settled_channels(moved: Moved, batch: int) -> Made | Translation | None:
    """The channels that a value consists of, where these are whole and in place; ``None`` where they are not."""
    channels, rows, columns = moved.source.extents
    if moved.index.ndim != 4 or moved.index.shape[0] != batch or moved.index.shape[2:] != (rows, columns):
        return None
    picked = moved.index[0, :, 0, 0] // (rows * columns)
    whole = np.arange(batch * channels * rows * columns).reshape(batch, channels, rows, columns)
    if picked.max() >= channels or not np.array_equal(whole[:, picked], moved.index):
        return None
    return vocabulary.pick(vocabulary.image(moved.source), 1, [int(channel) for channel in picked])


def _reshape(node: Any, index: Array, target: Array) -> Array:
    shape = [index.shape[place] if size == 0 else int(size) for place, size in enumerate(target.reshape(-1).tolist())]
    return index.reshape(shape)


def _transpose(node: Any, index: Array) -> Array:
    return index.transpose(node.get("perm"))


def _gather(node: Any, index: Array, places: Array) -> Array:
    return np.take(index, places, axis=node.get("axis", 0))


_MOVES: dict[str, Callable[..., Array]] = {"Gather": _gather, "Reshape": _reshape, "Transpose": _transpose}

__all__ = ["Moved", "Unsupported", "follow", "settled_channels"]
