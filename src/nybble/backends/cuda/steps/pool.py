"""Pools."""

from __future__ import annotations

from nybble.backends.cuda import structures
from nybble.backends.cuda.builder import Builder
from nybble.backends.cuda.device import Launch
from nybble.backends.cuda.kinds import KINDS, StepKind
from nybble.lower import Pool, Step


class PoolKind(StepKind):
    """Pools on a GPU: maxima and averages."""

    kind = "pool"

    def launches(self, step: Step, builder: Builder) -> list[Launch]:
        """One launch; the extents of the result imply the windows that ``ceil_mode`` adds."""
        pool = step.body_as(Pool)
        params = structures.PoolParams(
            input=builder.tensor(step.input),
            out=builder.tensor(step.result),
            window=builder.window(pool.window, step.input, step.result),
            pixels=builder.pixels(step.result),
            pad_bottom=pool.window.padding.bottom,
            pad_right=pool.window.padding.right,
            average=pool.average,
            count_padding=pool.count_padding,
        )
        return [Launch("layer_pool", builder.layer_grid(step.result), params)]


KINDS.register(PoolKind())
