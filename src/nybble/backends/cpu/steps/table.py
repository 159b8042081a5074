"""Tables: any function of a single code that no other step includes."""

from __future__ import annotations

from nybble import _native
from nybble.backends.cpu.builder import Builder
from nybble.backends.cpu.kinds import KINDS, StepKind
from nybble.graph import Tensor
from nybble.lower import Step


class TableKind(StepKind):
    """Tables on the CPU: one table for all channels, in any channel order."""

    kind = "table"

    def add(self, step: Step, builder: Builder) -> None:
        """Pass the whole table; codes that the input cannot have are never looked up."""
        spec = _native.TableSpec()
        spec.input = builder.ids[step.source]
        spec.table = step.body_as(Tensor).numpy().tolist()
        spec.output, spec.output_lists = builder.output(step)
        builder.program.add_table(spec)


KINDS.register(TableKind())
