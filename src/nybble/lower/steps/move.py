"""Operations that only move codes."""

from __future__ import annotations

from typing import Any, cast

from nybble.graph import DepthToSpace, Node, PadEdges, PickChannels, ResizeNearest, Slice
from nybble.graph.ops import operation_of
from nybble.graph.ops.moving import MovingOperation
from nybble.lower.base import LOWERINGS, Lowering
from nybble.lower.step import Step


class MoveLowering(Lowering[Any]):
    """The lowering of an operation that moves codes: the body gives the source of each row, column and channel."""

    kind = "move"

    def begin(self, node: Node, step: Step) -> None:
        """The body is made of indices."""
        operation = cast("MovingOperation[Any]", operation_of(node))
        channels, rows, columns = step.input.shape
        step.body = operation.moves(node, (channels, rows, columns))


class PickLowering(MoveLowering):
    """The lowering of PickChannels."""

    node = PickChannels


class SliceLowering(MoveLowering):
    """The lowering of Slice."""

    node = Slice


class DepthToSpaceLowering(MoveLowering):
    """The lowering of DepthToSpace: channels become pixels."""

    node = DepthToSpace


class ResizeNearestLowering(MoveLowering):
    """The lowering of ResizeNearest, which repeats rows and columns."""

    node = ResizeNearest


class PadEdgesLowering(MoveLowering):
    """The lowering of PadEdges, which repeats the outer rows and columns."""

    node = PadEdges


for _lowering in (
    PickLowering(),
    SliceLowering(),
    DepthToSpaceLowering(),
    ResizeNearestLowering(),
    PadEdgesLowering(),
):
    LOWERINGS.register(_lowering)
