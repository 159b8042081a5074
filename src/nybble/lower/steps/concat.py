"""Concatenation of channels, which stay in the graph's order."""

from __future__ import annotations

from nybble.graph import Concat
from nybble.lower.base import LOWERINGS, Lowering


class ConcatLowering(Lowering[Concat]):
    """The lowering of Concat, of any number of values."""

    node = Concat
    kind = "concat"


LOWERINGS.register(ConcatLowering())
