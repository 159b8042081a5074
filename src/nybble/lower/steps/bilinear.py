"""Bilinear interpolation."""

from __future__ import annotations

from typing import NamedTuple

from nybble.graph import ResizeBilinear
from nybble.graph.ops.resize_bilinear import ResizeBilinearOperation, Taps
from nybble.lower.base import LOWERINGS, Lowering
from nybble.lower.step import Channels, Step


class Bilinear(NamedTuple):
    """The step's body holds, for each row and column of the result, its neighbours and their weights."""

    rows: Taps
    columns: Taps


class BilinearLowering(Lowering[ResizeBilinear]):
    """Each channel of the result depends on that channel of the input alone."""

    node = ResizeBilinear
    kind = "bilinear"
    channels = Channels.KEPT

    def begin(self, node: ResizeBilinear, step: Step) -> None:
        """The body is made of indices and weights."""
        step.body = Bilinear(*ResizeBilinearOperation().axes(node, step.input.shape))


LOWERINGS.register(BilinearLowering())
