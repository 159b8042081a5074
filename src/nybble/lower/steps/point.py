"""Element-wise steps: additions, ReLUs and requantizations that no convolution or product includes."""

from __future__ import annotations

from nybble.graph import Add, Quantize, ReLU
from nybble.lower.base import LOWERINGS, Fusion, Lowering
from nybble.lower.operands import rescaled
from nybble.lower.step import Channels, Step


class AddLowering(Lowering[Add]):
    """The lowering of Add: of two values; fused into a step it adds a stored value, the shortcut, to the sums."""

    node = Add
    kind = "point"
    channels = Channels.KEPT
    epilogue = ("relu", "quantize", "table")
    part = "add"

    def begin(self, node: Add, step: Step) -> None:
        """The second operand becomes the shortcut."""
        step.add, step.shortcut = node, step.inputs[1]

    def take_operands(self, node: Add, step: Step, fusion: Fusion) -> None:
        """Rescale both operands in this step, if they are rescaled for this addition alone."""
        if node.inputs[0] == node.inputs[1]:
            return
        for place, name in enumerate(node.inputs):
            operand = rescaled(name, fusion)
            if operand is None:
                continue
            source = fusion.value(operand.inputs[0])
            step.nodes.append(operand)
            step.inputs[place] = source
            if place == 0:
                step.input_quantize = operand
            else:
                step.shortcut, step.shortcut_quantize = source, operand

    def join(self, node: Add, step: Step, fusion: Fusion) -> bool:
        """Join the step if the addition adds another value than the step's own result."""
        if len(set(node.inputs)) != 2:
            return False
        step.add = node
        _take_shortcut(step, node.inputs[1 - node.inputs.index(step.output)], fusion)
        return True


class ReluLowering(Lowering[ReLU]):
    """The lowering of ReLU, with or without a maximum."""

    node = ReLU
    kind = "point"
    channels = Channels.KEPT
    epilogue = ("quantize", "table")
    part = "relu"

    def begin(self, node: ReLU, step: Step) -> None:
        """The step reads stored sums."""
        step.relu = node

    def join(self, node: ReLU, step: Step, fusion: Fusion) -> bool:
        """A ReLU can always join."""
        step.relu = node
        return True


class QuantizeLowering(Lowering[Quantize]):
    """The lowering of Quantize, with one factor per channel."""

    node = Quantize
    kind = "point"
    channels = Channels.KEPT
    epilogue = ("table",)
    part = "quantize"

    def begin(self, node: Quantize, step: Step) -> None:
        """The step reads stored sums or codes."""
        step.quantize = node

    def join(self, node: Quantize, step: Step, fusion: Fusion) -> bool:
        """A Quantize can always join."""
        step.quantize = node
        return True


def _take_shortcut(step: Step, name: str, fusion: Fusion) -> None:
    """Add a stored value; where it is a rescaled one whose clamp can do nothing, rescale it on the way."""
    node = rescaled(name, fusion)
    if node is not None:
        step.shortcut_quantize = node
        step.nodes.append(node)
        name = node.inputs[0]
    step.shortcut = fusion.value(name)
    step.inputs.append(step.shortcut)


LOWERINGS.register(AddLowering())
LOWERINGS.register(ReluLowering())
LOWERINGS.register(QuantizeLowering())
