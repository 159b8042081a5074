"""Requantization with another factor for negative values."""

from __future__ import annotations

from nybble import _native
from nybble.backends.cpu.builder import Builder
from nybble.backends.cpu.kinds import KINDS, StepKind
from nybble.graph import PReLU
from nybble.lower import Step


class PReLUKind(StepKind):
    """Factors go along in the order of the result."""

    kind = "prelu"

    def add(self, step: Step, builder: Builder) -> None:
        """One factor for each sign and channel."""
        node = step.body_as(PReLU)
        order = builder.order(step.result)
        spec = _native.PReluSpec()
        spec.input = builder.ids[step.source]
        rule = _native.Requantize()
        rule.factor = node.factor.numpy()[order].tolist()
        rule.shift = node.shift
        rule.low, rule.high = node.output_type.minimum, node.output_type.maximum
        spec.rule = rule
        spec.negative = node.negative_factor.numpy()[order].tolist()
        spec.output, spec.output_lists = builder.output(step)
        builder.program.add_prelu(spec)


KINDS.register(PReLUKind())
