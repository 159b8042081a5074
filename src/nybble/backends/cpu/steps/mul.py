"""Products of two values, or of one and a gate."""

from __future__ import annotations

from nybble import _native
from nybble.backends.cpu.builder import Builder
from nybble.backends.cpu.epilogue import set_epilogue
from nybble.backends.cpu.kinds import KINDS, StepKind
from nybble.lower import Step


class MulKind(StepKind):
    """Products on the CPU: exact products, then an epilogue."""

    kind = "mul"

    def add(self, step: Step, builder: Builder) -> None:
        """Both values, and a gate too, have the channel order of the result."""
        value, other = step.inputs
        spec = _native.MulSpec()
        spec.input, spec.other = builder.ids[value.name], builder.ids[other.name]
        spec.magnitude, spec.other_magnitude = max(1, value.magnitude), max(1, other.magnitude)
        set_epilogue(spec, step, builder.order(step.result))
        spec.output, spec.output_lists = builder.output(step)
        builder.program.add_mul(spec)


KINDS.register(MulKind())
