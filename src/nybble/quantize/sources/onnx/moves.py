"""ONNX nodes that move the elements of a batch across axes in ways that no value can express."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nybble.graph.types import Array
from nybble.quantize.ir.vocabulary import Translation
from nybble.quantize.sources.moved import Moved, of_images


def follow(node: Any, inputs: Sequence[Any], why: str) -> Moved | None:
    """The result of a node that only moves elements, of images or of moved elements; ``None`` for other nodes."""
    x = inputs[0] if inputs else None
    move = _MOVES.get(node.op)
    if move is None or not isinstance(x, Translation | Moved):
        return None
    if isinstance(x, Translation):
        images = of_images(x, node.batch, why, node.label)
        if images is None:
            return None
        x = images
    if not all(isinstance(entry, np.ndarray) for entry in inputs[1:]):
        return None
    try:
        index = move(node, x.index, *inputs[1:])
    except (ValueError, IndexError, TypeError):
        return None
    return Moved(x.source, index, x.why, x.node)


def _reshape(node: Any, index: Array, target: Array) -> Array:
    shape = [index.shape[place] if size == 0 else int(size) for place, size in enumerate(target.reshape(-1).tolist())]
    return index.reshape(shape)


def _transpose(node: Any, index: Array) -> Array:
    return index.transpose(node.get("perm"))


def _gather(node: Any, index: Array, places: Array) -> Array:
    return np.take(index, places, axis=node.get("axis", 0))


_MOVES: dict[str, Callable[..., Array]] = {"Gather": _gather, "Reshape": _reshape, "Transpose": _transpose}
