"""Codes that only move."""

from __future__ import annotations

from typing import Any, cast

from nybble.graph import DepthToSpace, Node, PadEdges, PickChannels, ResizeNearest, Slice
from nybble.graph.ops import operation_of
from nybble.graph.ops.moving import MovingOperation
from nybble.lower.base import LOWERINGS, Lowering
from nybble.lower.step import Step


class MoveLowering(Lowering[Any]):
    """The body says where each row, column and channel comes from."""

    kind = "move"

    def begin(self, node: Node, step: Step) -> None:
        """By indices."""
        operation = cast("MovingOperation[Any]", operation_of(node))
        channels, rows, columns = step.input.shape
        step.body = operation.moves(node, (channels, rows, columns))


class PickLowering(MoveLowering):
    """Of channels."""

    node = PickChannels


class SliceLowering(MoveLowering):
    """Of rows, columns and channels."""

    node = Slice


class DepthToSpaceLowering(MoveLowering):
    """Of channels that become pixels."""

    node = DepthToSpace


class ResizeNearestLowering(MoveLowering):
    """Of rows and columns."""

    node = ResizeNearest


class PadEdgesLowering(MoveLowering):
    """Of rows and columns, some of them several times."""

    node = PadEdges


for _lowering in (
    PickLowering(),
    SliceLowering(),
    DepthToSpaceLowering(),
    ResizeNearestLowering(),
    PadEdgesLowering(),
):
    LOWERINGS.register(_lowering)
