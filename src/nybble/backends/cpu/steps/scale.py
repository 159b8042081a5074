"""Sums to real logits."""

from __future__ import annotations

from nybble import _native
from nybble.backends.cpu.builder import Builder, rule_of
from nybble.backends.cpu.kinds import KINDS, StepKind
from nybble.graph import Tensor
from nybble.lower import Step


class ScaleKind(StepKind):
    """The conversion of sums to floats on the CPU. No lists are built of floats."""

    kind = "scale"

    def add(self, step: Step, builder: Builder) -> None:
        """Pass one scale per channel, in the graph's order."""
        spec = _native.ScaleSpec()
        spec.input = builder.ids[step.source]
        spec.scale = step.body_as(Tensor).numpy().tolist()
        if step.input_quantize is not None:
            spec.input_requantize = True
            spec.input_rule = rule_of(step.input_quantize, builder.order(step.input))
        spec.output, _ = builder.output(step)
        builder.program.add_scale(spec)


KINDS.register(ScaleKind())
