"""Requantization with another factor for negative values."""

from __future__ import annotations

from nybble.graph import PReLU
from nybble.lower.base import LOWERINGS, Fusion, Lowering
from nybble.lower.step import Channels, Step


class PReLULowering(Lowering[PReLU]):
    """The lowering of PReLU, which takes the place of a Quantize."""

    node = PReLU
    kind = "point"
    channels = Channels.KEPT
    epilogue = ("table",)
    part = "quantize"

    def begin(self, node: PReLU, step: Step) -> None:
        """The step reads stored sums or codes."""
        step.quantize, step.negative_factor = node, node.negative_factor

    def join(self, node: PReLU, step: Step, fusion: Fusion) -> bool:
        """Join unless a ReLU has already removed negative values."""
        if step.relu is not None:
            return False
        step.quantize, step.negative_factor = node, node.negative_factor
        return True


LOWERINGS.register(PReLULowering())
