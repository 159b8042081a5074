"""Products of two activations, or of one and a gate."""

from __future__ import annotations

from nybble.graph import Mul
from nybble.lower.base import LOWERINGS, Lowering
from nybble.lower.step import Channels


class MulLowering(Lowering[Mul]):
    """The lowering of Mul. The second value may be a gate: one number per channel."""

    node = Mul
    kind = "mul"
    channels = Channels.KEPT
    epilogue = ("relu", "quantize", "table")


LOWERINGS.register(MulLowering())
