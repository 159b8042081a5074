"""Any function of one code."""

from __future__ import annotations

from nybble.graph import Table
from nybble.lower.base import LOWERINGS, Fusion, Lowering
from nybble.lower.step import Channels, Step


class TableLowering(Lowering[Table]):
    """Behind the Quantize of another step, or a step of its own."""

    node = Table
    kind = "table"
    channels = Channels.KEPT
    part = "table"

    def begin(self, node: Table, step: Step) -> None:
        """The body is the table, by codes of what is read in ascending order."""
        step.body = node.table

    def join(self, node: Table, step: Step, fusion: Fusion) -> bool:
        """Where the step has codes to look up."""
        if step.quantize is None:
            return False
        step.table = node
        return True


LOWERINGS.register(TableLowering())
