"""Concatenation of channels."""

from __future__ import annotations

from nybble.backends.cuda import structures
from nybble.backends.cuda.builder import Builder
from nybble.backends.cuda.device import Launch
from nybble.backends.cuda.kinds import KINDS, StepKind
from nybble.lower import Step


class ConcatKind(StepKind):
    """Concatenation on a GPU: copies, channel by channel."""

    kind = "concat"

    def why_not(self, step: Step) -> str | None:
        """The kernel's parameters can hold only so many values: ``MOST_PARTS``."""
        if len(step.inputs) <= structures.MOST_PARTS:
            return None
        return f"the GPU joins {structures.MOST_PARTS} values at most, not {len(step.inputs)}"

    def launches(self, step: Step, builder: Builder) -> list[Launch]:
        """One launch, with the inputs in their order."""
        params = structures.ConcatParams(
            out=builder.tensor(step.result),
            part=tuple(builder.tensor(value) for value in step.inputs),
            pixels=builder.pixels(step.result),
            parts=len(step.inputs),
        )
        return [Launch("layer_concat", builder.layer_grid(step.result), params)]


KINDS.register(ConcatKind())
