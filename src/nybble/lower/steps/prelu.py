"""Requantization with another factor for negative values."""

from __future__ import annotations

from nybble.graph import PReLU
from nybble.lower.base import LOWERINGS, Fusion, Lowering
from nybble.lower.step import Channels, Step


class PReLULowering(Lowering[PReLU]):
    """In the place of a Quantize."""

    node = PReLU
    kind = "point"
    channels = Channels.KEPT
    epilogue = ("table",)
    part = "quantize"

    def begin(self, node: PReLU, step: Step) -> None:
        """Of stored sums or codes."""
        step.quantize, step.negative_factor = node, node.negative_factor

    def join(self, node: PReLU, step: Step, fusion: Fusion) -> bool:
        """Where no ReLU has cut off what is below zero."""
        if step.relu is not None:
            return False
        step.quantize, step.negative_factor = node, node.negative_factor
        return True


LOWERINGS.register(PReLULowering())
