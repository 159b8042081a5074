"""Bilinear interpolation."""

from __future__ import annotations

from nybble import _native
from nybble.backends.cpu.builder import Builder
from nybble.backends.cpu.kinds import KINDS, StepKind
from nybble.graph.ops.resize_bilinear import Taps
from nybble.lower import Step
from nybble.lower.steps.bilinear import Bilinear


class BilinearKind(StepKind):
    """Bilinear interpolation on the CPU: weighted sums of four pixels, divided."""

    kind = "bilinear"

    def add(self, step: Step, builder: Builder) -> None:
        """Pass the step's indices and weights."""
        body = step.body_as(Bilinear)
        spec = _native.BilinearSpec()
        spec.input = builder.ids[step.source]
        spec.rows, spec.columns = _axis(body.rows), _axis(body.columns)
        spec.output, spec.output_lists = builder.output(step)
        builder.program.add_bilinear(spec)


def _axis(taps: Taps) -> _native.BilinearAxis:
    axis = _native.BilinearAxis()
    axis.low, axis.high, axis.weight = list(taps.low), list(taps.high), list(taps.weight)
    axis.divisor = taps.divisor
    return axis


KINDS.register(BilinearKind())
