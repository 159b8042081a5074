"""Operands that a step rescales itself, since no other step reads them."""

from __future__ import annotations

from nybble.graph import DType, Quantize
from nybble.graph.types import ACTIVATIONS
from nybble.lower.base import Fusion


def rescaled(name: str, fusion: Fusion) -> Quantize | None:
    """The Quantize that computes a value for its only reader, from a stored value and without an effective clamp."""
    node = fusion.node(name)
    if not isinstance(node, Quantize) or fusion.only_reader(name) is None or name in fusion.taken:
        return None
    source = fusion.value(node.inputs[0])
    clamp_is_idle = node.output_type is DType.S32 or not source.dtype.is_signed
    # Graph inputs are stored without channel padding, which a shortcut needs.
    is_stored = source.dtype in ACTIVATIONS and not source.is_input
    return node if node.output_type not in ACTIVATIONS and is_stored and clamp_is_idle else None
