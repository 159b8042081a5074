"""Requantization with another factor for negative values."""

from __future__ import annotations

from nybble.graph import PReLU
from nybble.lower.base import LOWERINGS, Lowering
from nybble.lower.step import Channels, Step


class PReLULowering(Lowering[PReLU]):
    """A step of its own, behind stored sums. The body is the node."""

    node = PReLU
    kind = "prelu"
    channels = Channels.KEPT

    def begin(self, node: PReLU, step: Step) -> None:
        """The factors are by channel."""
        step.body = node


LOWERINGS.register(PReLULowering())
