"""Element-wise steps: sums that no convolution includes, products, tables."""

from __future__ import annotations

from nybble.backends.cuda import structures
from nybble.backends.cuda.builder import Builder, padded_channels
from nybble.backends.cuda.device import Launch
from nybble.backends.cuda.kinds import KINDS, StepKind
from nybble.graph import Tensor
from nybble.lower import Step, Value


def _launch(step: Step, builder: Builder, epilogue: structures.Epilogue, other: Value | None = None) -> list[Launch]:
    params = structures.PointParams(
        epilogue=epilogue,
        input=builder.tensor(step.input),
        pixels=builder.pixels(step.result),
        image_pixels=builder.stored(step.result).pixels,
    )
    if step.input_quantize is not None:
        count = padded_channels(builder.stored(step.result))
        params.input_factor = builder.factors(step.input_quantize.factor, count)
        params.input_shift = step.input_quantize.shift
    if other is not None:
        params.other = builder.tensor(other)
        params.is_gate = other.shape != step.input.shape
    return [Launch("layer_point", builder.layer_grid(step.result), params)]


class PointKind(StepKind):
    """Element-wise steps on a GPU: one value or the sum of two, each rescaled or not, then an epilogue."""

    kind = "point"

    def launches(self, step: Step, builder: Builder) -> list[Launch]:
        """One launch; the second value is the epilogue's shortcut."""
        return _launch(step, builder, builder.epilogue(step))


class MulKind(StepKind):
    """Products on a GPU: of two values, or of one and a gate, then an epilogue."""

    kind = "mul"

    def launches(self, step: Step, builder: Builder) -> list[Launch]:
        """One launch; a gate is an image of one pixel."""
        return _launch(step, builder, builder.epilogue(step), step.inputs[1])


class TableKind(StepKind):
    """Tables on a GPU: any function of a single code."""

    kind = "table"

    def launches(self, step: Step, builder: Builder) -> list[Launch]:
        """One launch; codes are looked up as they are read."""
        epilogue = builder.epilogue(step)
        builder.set_table(epilogue, step.body_as(Tensor).numpy(), step.input.dtype.minimum)
        return _launch(step, builder, epilogue)


for _kind in (PointKind(), MulKind(), TableKind()):
    KINDS.register(_kind)
