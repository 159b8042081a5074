"""Concatenation of channels."""

from __future__ import annotations

from nybble import _native
from nybble.backends.cpu.builder import Builder
from nybble.backends.cpu.kinds import KINDS, StepKind
from nybble.lower import Step


class ConcatKind(StepKind):
    """Concatenation on the CPU: copies, pixel by pixel."""

    kind = "concat"

    def add(self, step: Step, builder: Builder) -> None:
        """Pass the inputs in their order."""
        spec = _native.ConcatSpec()
        spec.inputs = [builder.ids[value.name] for value in step.inputs]
        spec.output, spec.output_lists = builder.output(step)
        builder.program.add_concat(spec)


KINDS.register(ConcatKind())
