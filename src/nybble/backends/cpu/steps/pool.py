"""Pools."""

from __future__ import annotations

from nybble import _native
from nybble.backends.cpu.builder import Builder
from nybble.backends.cpu.kinds import KINDS, StepKind
from nybble.lower import Pool, Step


class PoolKind(StepKind):
    """Pools on the CPU: maxima and averages."""

    kind = "pool"

    def add(self, step: Step, builder: Builder) -> None:
        """The extents of the result imply the windows that ``ceil_mode`` adds."""
        pool = step.body_as(Pool)
        window = pool.window
        spec = _native.PoolSpec()
        spec.input = builder.ids[step.source]
        spec.kernel_h, spec.kernel_w = window.kernel_size
        spec.stride_h, spec.stride_w = window.stride
        spec.pad_top, spec.pad_left, spec.pad_bottom, spec.pad_right = window.padding
        spec.dilation_h, spec.dilation_w = window.dilation
        spec.average = pool.average
        spec.count_padding = pool.count_padding
        spec.output, spec.output_lists = builder.output(step)
        builder.program.add_pool(spec)


KINDS.register(PoolKind())
