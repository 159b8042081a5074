"""Sums to real logits."""

from __future__ import annotations

from nybble.graph import Scale
from nybble.lower.base import LOWERINGS, Lowering
from nybble.lower.step import Step


class ScaleLowering(Lowering[Scale]):
    """The body is the tensor of scales."""

    node = Scale
    kind = "scale"

    def begin(self, node: Scale, step: Step) -> None:
        """One scale per channel."""
        step.body = node.out_scale


LOWERINGS.register(ScaleLowering())
