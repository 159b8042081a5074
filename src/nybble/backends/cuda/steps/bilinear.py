"""Bilinear interpolation."""

from __future__ import annotations

import numpy as np

from nybble.backends.cuda import structures
from nybble.backends.cuda.builder import Builder
from nybble.backends.cuda.device import Launch
from nybble.backends.cuda.kinds import KINDS, StepKind
from nybble.graph.ops.resize_bilinear import Taps
from nybble.lower import Step
from nybble.lower.steps.bilinear import Bilinear


class BilinearKind(StepKind):
    """Bilinear interpolation on a GPU: weighted sums of four pixels, divided."""

    kind = "bilinear"

    def launches(self, step: Step, builder: Builder) -> list[Launch]:
        """Launches with the step's indices and weights."""
        body = step.body_as(Bilinear)
        source, result = builder.stored(step.input), builder.stored(step.result)
        params = structures.BilinearParams(
            input=builder.tensor(step.input),
            out=builder.tensor(step.result),
            rows=_axis(body.rows, builder),
            columns=_axis(body.columns, builder),
            pixels=builder.pixels(step.result),
            height=source.extents[0],
            width=source.extents[1],
            out_height=result.extents[0],
            out_width=result.extents[1],
        )
        return [Launch("layer_bilinear", builder.layer_grid(step.result), params)]


def _axis(taps: Taps, builder: Builder) -> structures.Axis:
    low, high, weight = (
        builder.constants.add(np.array(numbers, np.int32)) for numbers in (taps.low, taps.high, taps.weight)
    )
    return structures.Axis(low, high, weight, taps.divisor)


KINDS.register(BilinearKind())
