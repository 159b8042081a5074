"""Sums to real logits."""

from __future__ import annotations

from nybble.graph import Scale
from nybble.lower.base import LOWERINGS, Fusion, Lowering
from nybble.lower.operands import rescaled
from nybble.lower.step import Step


class ScaleLowering(Lowering[Scale]):
    """The lowering of Scale: the body is the tensor of scales."""

    node = Scale
    kind = "scale"

    def begin(self, node: Scale, step: Step) -> None:
        """The body has one scale per channel."""
        step.body = node.out_scale

    def take_operands(self, node: Scale, step: Step, fusion: Fusion) -> None:
        """Rescale codes to sums in this step, if no other step reads the sums."""
        operand = rescaled(node.inputs[0], fusion)
        if operand is not None:
            step.nodes.append(operand)
            step.inputs[0] = fusion.value(operand.inputs[0])
            step.input_quantize = operand


LOWERINGS.register(ScaleLowering())
