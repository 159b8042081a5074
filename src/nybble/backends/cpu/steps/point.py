"""Element by element: sums that no convolution takes along."""

from __future__ import annotations

from nybble import _native
from nybble.backends.cpu.builder import Builder
from nybble.backends.cpu.epilogue import set_epilogue
from nybble.backends.cpu.kinds import KINDS, StepKind
from nybble.lower import Step


class PointKind(StepKind):
    """One value or the sum of two, then an epilogue."""

    kind = "point"

    def add(self, step: Step, builder: Builder) -> None:
        """Both values have the order of the result."""
        spec = _native.PointSpec()
        spec.input = builder.ids[step.source]
        if step.shortcut is not None:
            spec.other = builder.ids[step.shortcut.name]
        set_epilogue(spec, step, builder.order(step.result))
        spec.output, spec.output_lists = builder.output(step)
        builder.program.add_point(spec)


KINDS.register(PointKind())
