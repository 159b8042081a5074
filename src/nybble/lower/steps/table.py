"""Tables: any function of a single code."""

from __future__ import annotations

from nybble.graph import Table
from nybble.lower.base import LOWERINGS, Fusion, Lowering
from nybble.lower.step import Channels, Step


class TableLowering(Lowering[Table]):
    """The lowering of Table, which follows the Quantize of another step or is a step of its own."""

    node = Table
    kind = "table"
    channels = Channels.KEPT
    part = "table"

    def begin(self, node: Table, step: Step) -> None:
        """The body is the table; its entries follow the codes of the input in ascending order."""
        step.body = node.table

    def join(self, node: Table, step: Step, fusion: Fusion) -> bool:
        """Join if the step produces codes."""
        if step.quantize is None:
            return False
        step.table = node
        return True


LOWERINGS.register(TableLowering())
