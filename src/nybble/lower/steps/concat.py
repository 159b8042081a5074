"""Concatenation of channels: each value's lie where the graph has them."""

from __future__ import annotations

from nybble.graph import Concat
from nybble.lower.base import LOWERINGS, Lowering


class ConcatLowering(Lowering[Concat]):
    """Of any number of values."""

    node = Concat
    kind = "concat"


LOWERINGS.register(ConcatLowering())
