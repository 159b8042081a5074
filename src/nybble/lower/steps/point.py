"""Sums, element by element: added, cut off, requantized. Convolutions and products take these along."""

from __future__ import annotations

from nybble.graph import Add, DType, Quantize, ReLU
from nybble.graph.types import ACTIVATIONS
from nybble.lower.base import LOWERINGS, Fusion, Lowering
from nybble.lower.step import Channels, Step


class AddLowering(Lowering[Add]):
    """Of two values; one that is fused adds a stored value, the shortcut, to the sums."""

    node = Add
    kind = "point"
    channels = Channels.KEPT
    epilogue = ("relu", "quantize", "table")
    part = "add"

    def begin(self, node: Add, step: Step) -> None:
        """The second value is the shortcut."""
        step.add, step.shortcut = node, step.inputs[1]

    def join(self, node: Add, step: Step, fusion: Fusion) -> bool:
        """Where it adds another value than the step's own."""
        if len(set(node.inputs)) != 2:
            return False
        step.add = node
        _take_shortcut(step, node.inputs[1 - node.inputs.index(step.output)], fusion)
        return True


class ReluLowering(Lowering[ReLU]):
    """With or without a maximum."""

    node = ReLU
    kind = "point"
    channels = Channels.KEPT
    epilogue = ("quantize", "table")
    part = "relu"

    def begin(self, node: ReLU, step: Step) -> None:
        """Of stored sums."""
        step.relu = node

    def join(self, node: ReLU, step: Step, fusion: Fusion) -> bool:
        """Always."""
        step.relu = node
        return True


class QuantizeLowering(Lowering[Quantize]):
    """By one factor per channel."""

    node = Quantize
    kind = "point"
    channels = Channels.KEPT
    epilogue = ("table",)
    part = "quantize"

    def begin(self, node: Quantize, step: Step) -> None:
        """Of stored sums or codes."""
        step.quantize = node

    def join(self, node: Quantize, step: Step, fusion: Fusion) -> bool:
        """Always."""
        step.quantize = node
        return True


def _take_shortcut(step: Step, name: str, fusion: Fusion) -> None:
    """Add a stored value; where it is a rescaled one whose clamp can do nothing, rescale it on the way."""
    node = fusion.node(name)
    if isinstance(node, Quantize) and fusion.only_reader(name) is not None and name not in fusion.taken:
        source = fusion.value(node.inputs[0])
        clamp_is_idle = node.output_type is DType.S32 or not source.dtype.is_signed
        # Graph inputs are stored without channel padding, which a shortcut needs.
        is_stored = source.dtype in ACTIVATIONS and not source.is_input
        if node.output_type not in ACTIVATIONS and is_stored and clamp_is_idle:
            step.shortcut_quantize = node
            step.nodes.append(node)
            name = source.name
    step.shortcut = fusion.value(name)
    step.inputs.append(step.shortcut)


LOWERINGS.register(AddLowering())
LOWERINGS.register(ReluLowering())
LOWERINGS.register(QuantizeLowering())
