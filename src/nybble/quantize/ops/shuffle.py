"""Channels that become pixels, and channels and rows and columns that are picked out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch.nn import functional

from nybble import graph
from nybble.graph import Pair
from nybble.quantize.ir import float_network, vocabulary
from nybble.quantize.ir.vocabulary import Result, Translation, Unsupported
from nybble.quantize.ops.examples import FloatExample, around
from nybble.quantize.ops.forms import Forms
from nybble.quantize.ops.moved import Move, MovedCodes
from nybble.quantize.ops.onnx_arguments import Value, image_of
from nybble.quantize.ops.registry import register

forms = Forms()


class Shuffled(Move):
    """Channels that become pixels."""


class Picked(Move):
    """Some channels."""


class Cropped(Move):
    """Some rows and columns."""


@forms.aten("pixel_shuffle.default")
def _pixel_shuffle(shape: tuple[int, ...], x: Translation, factor: int) -> Result:
    return vocabulary.shuffle(x, Pair(factor, factor))


@forms.onnx("DepthToSpace")
def _onnx_depth_to_space(node: Any, value: Value) -> Result:
    size, x = node.get("blocksize", 0), image_of(value)
    if size < 1 or x.extents[0] % (size * size):
        raise Unsupported(f"{x.extents[0]} channels are not divisible into blocks of {size}")
    if node.get("mode", "DCR") == "CRD":
        return vocabulary.shuffle(x, Pair(size, size))
    count = x.extents[0] // (size * size)
    order = [place * count + channel for channel in range(count) for place in range(size * size)]
    return vocabulary.shuffle(x, Pair(size, size), order)


class PixelShuffle(MovedCodes):
    """Blocks of pixels from channels."""

    forms = forms
    ops = (float_network.Shuffle,)
    modules = (Shuffled,)
    nodes = (graph.DepthToSpace,)
    kind = graph.DepthToSpace

    def examples(self) -> Iterator[FloatExample]:
        """Cover a shuffle behind a layer, and before a ReLU."""
        yield around("twofold", lambda: lambda x: functional.pixel_shuffle(torch.cat([x, x], 1), 2), 3)
        yield around("relu behind", lambda: lambda x: functional.relu(functional.pixel_shuffle(x[:, :4], 2)), 1)

    def attributes(self, op: float_network.Shuffle) -> Mapping[str, Any]:
        """The block of the node."""
        return {"block": op.block}

    def op_of(self, node: graph.DepthToSpace, shape: tuple[int, ...]) -> float_network.Shuffle:
        """The operation with the node's block."""
        return float_network.Shuffle(name=node.name, inputs=(), shape=shape, block=node.block)


class PickedCodes(MovedCodes):
    """Channels that no layer takes in: `fold` makes these of convolutions that pick channels."""

    ops = (float_network.Pick,)
    modules = (Picked,)
    nodes = (graph.PickChannels,)
    kind = graph.PickChannels

    def examples(self) -> Iterator[FloatExample]:
        """Cover channels in front of a concatenation."""
        yield around("shuffled", lambda: lambda x: torch.cat([functional.relu(x[:, ::2]), x[:, 1::2]], 1))

    def attributes(self, op: float_network.Pick) -> Mapping[str, Any]:
        """The channels of the node."""
        return {"channels": op.channels}

    def op_of(self, node: graph.PickChannels, shape: tuple[int, ...]) -> float_network.Pick:
        """The operation with the node's channels."""
        return float_network.Pick(name=node.name, inputs=(), shape=shape, channels=node.channels)


class CroppedCodes(MovedCodes):
    """Rows and columns in even steps."""

    ops = (float_network.Crop,)
    modules = (Cropped,)
    nodes = (graph.Slice,)
    kind = graph.Slice

    def examples(self) -> Iterator[FloatExample]:
        """Cover every other row and column from the second on, as in a Focus layer."""
        yield around("focus", lambda: lambda x: torch.cat([x[:, :, ::2, :8:2], x[:, :, 1::2, 1:8:2]], 1), 12)

    def attributes(self, op: float_network.Crop) -> Mapping[str, Any]:
        """The node's rows and columns, and all channels."""
        return {
            "start": (0, *op.start),
            "stop": (op.shape[0], *op.stop),
            "step": (1, *op.step),
        }

    def op_of(self, node: graph.Slice, shape: tuple[int, ...]) -> float_network.Crop:
        """The operation with the node's rows and columns; channels stay."""
        start, stop, step = (Pair(*part[1:]) for part in (node.start, node.stop, node.step))
        return float_network.Crop(name=node.name, inputs=(), shape=shape, start=start, stop=stop, step=step)


register(PixelShuffle())
register(PickedCodes())
register(CroppedCodes())
