"""ATen calls that move the elements of a batch across axes in ways that no value can express."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from nybble.quantize.ir.vocabulary import Translation
from nybble.quantize.sources.moved import Moved, of_images

#: Operations that compute nothing: they have the same effect on indices as on values.
_MOVES = frozenset(
    (
        *(
            "_unsafe_view",
            "alias",
            "chunk",
            "clone",
            "contiguous",
            "detach",
            "expand",
            "flatten",
            "flip",
            "index_select",
        ),
        *(
            "channel_shuffle",
            "native_channel_shuffle",
            "permute",
            "pixel_unshuffle",
            "reshape",
            "roll",
            "select",
            "slice",
            "split",
            "split_with_sizes",
            "squeeze",
            "t",
            "transpose",
        ),
        *("unbind", "unflatten", "unsafe_chunk", "unsafe_split", "unsqueeze", "view"),
    )
)


def moves(node: Node) -> bool:
    """Whether a call computes nothing."""
    return str(node.target).removeprefix("aten.").split(".")[0] in _MOVES


def follow(node: Node, args: Sequence[Any], batch: int, why: str) -> Moved | tuple[Moved, ...] | None:
    """The result of a call that only moves elements, of images or of moved elements; ``None`` for other calls.

    Parameters
    ----------
    node : torch.fx.Node
    args : sequence
        Its arguments, values in place of nodes; the first is what it moves.
    batch : int
        Images of the batch.
    why : str
        The error if it is read nevertheless.
    """
    name = str(node.target).removeprefix("aten.").split(".")[0]
    x = args[0] if args else None
    if name not in _MOVES or not callable(node.target) or not isinstance(x, Translation | Moved):
        return None
    if isinstance(x, Translation):
        images = of_images(x, batch, why, node.name)
        if images is None:
            return None
        x = images
    if any(isinstance(entry, Translation | Moved) for entry in args[1:]):
        return None
    result = node.target(torch.from_numpy(x.index), *args[1:], **node.kwargs)
    if isinstance(result, Tensor):
        return replace(x, index=result.numpy())
    return tuple(replace(x, index=part.numpy()) for part in result)
