"""Element-wise steps: sums that no convolution includes."""

from __future__ import annotations

from nybble import _native
from nybble.backends.cpu.builder import Builder, rule_of
from nybble.backends.cpu.epilogue import set_epilogue
from nybble.backends.cpu.kinds import KINDS, StepKind
from nybble.graph import DType, PReLU, Quantize
from nybble.graph.types import ACTIVATIONS
from nybble.lower import Step


class PointKind(StepKind):
    """Element-wise steps on the CPU: one value or the sum of two, then an epilogue."""

    kind = "point"

    def add(self, step: Step, builder: Builder) -> None:
        """Both values have the channel order of the result."""
        order = builder.order(step.result)
        spec = _native.PointSpec()
        spec.input = builder.ids[step.source]
        if step.input.dtype in ACTIVATIONS:
            spec.magnitude = max(1, step.input.magnitude)
        if step.shortcut is not None:
            spec.other = builder.ids[step.shortcut.name]
            if step.shortcut.dtype in ACTIVATIONS:
                spec.shortcut_magnitude = max(1, step.shortcut.magnitude)
            if step.shortcut_quantize is not None:
                spec.shortcut_requantize = True
                spec.shortcut_rule = rule_of(step.shortcut_quantize, order)
        alone = _alone(step)
        if alone is None:
            set_epilogue(spec, step, order)
        rescaling = step.input_quantize or alone
        if rescaling is not None:
            spec.input_requantize = True
            spec.input_rule = rule_of(rescaling, order)
        spec.output, spec.output_lists = builder.output(step)
        builder.program.add_point(spec)


def _alone(step: Step) -> Quantize | PReLU | None:
    """The Quantize of a step that only rescales codes to 32-bit sums, which no clamp bounds; else ``None``."""
    if step.add is not None or step.relu is not None or step.quantize is None:
        return None
    is_wide = step.quantize.output_type is DType.S32 and step.input.dtype in ACTIVATIONS
    return step.quantize if is_wide else None


KINDS.register(PointKind())
