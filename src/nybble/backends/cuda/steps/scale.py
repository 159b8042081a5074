"""Sums to real logits."""

from __future__ import annotations

import numpy as np

from nybble.backends.cuda import structures
from nybble.backends.cuda.builder import Builder
from nybble.backends.cuda.device import Launch
from nybble.backends.cuda.kinds import KINDS, StepKind
from nybble.graph import Tensor
from nybble.lower import Step


class ScaleKind(StepKind):
    """The conversion of sums to floats on a GPU."""

    kind = "scale"

    def launches(self, step: Step, builder: Builder) -> list[Launch]:
        """One launch; padding is divided by 1."""
        scales = np.ones(builder.stored(step.result).pitch, np.float32)
        numbers = step.body_as(Tensor).numpy()
        scales[: len(numbers)] = numbers
        params = structures.ScaleParams(
            input=builder.tensor(step.input),
            out=builder.tensor(step.result),
            scale=builder.constants.add(scales),
            pixels=builder.pixels(step.result),
        )
        if step.input_quantize is not None:
            params.input_factor = builder.factors(step.input_quantize.factor, len(scales))
            params.input_shift = step.input_quantize.shift
        return [Launch("layer_scale", builder.layer_grid(step.result), params)]


KINDS.register(ScaleKind())
