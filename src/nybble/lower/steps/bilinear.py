"""Bilinear interpolation."""

from __future__ import annotations

from typing import NamedTuple

from nybble.graph import ResizeBilinear
from nybble.graph.ops.resize_bilinear import ResizeBilinearOperation, Taps
from nybble.lower.base import LOWERINGS, Lowering
from nybble.lower.step import Channels, Step


class Bilinear(NamedTuple):
    """What lies between which rows and columns."""

    rows: Taps
    columns: Taps


class BilinearLowering(Lowering[ResizeBilinear]):
    """Each channel for itself."""

    node = ResizeBilinear
    kind = "bilinear"
    channels = Channels.KEPT

    def begin(self, node: ResizeBilinear, step: Step) -> None:
        """By indices and weights."""
        step.body = Bilinear(*ResizeBilinearOperation().axes(node, step.input.shape))


LOWERINGS.register(BilinearLowering())
