"""Builds the parameters of steps: addresses of values, constants, epilogues."""

from __future__ import annotations

import numpy as np

from nybble.backends.cuda import structures
from nybble.backends.cuda.constants import Constants
from nybble.backends.cuda.kernels import THREADS
from nybble.backends.cuda.layout import Stored
from nybble.backends.cuda.packing import pack_channels
from nybble.backends.cuda.plan import CudaPlan
from nybble.backends.cuda.rules import fits, is_narrow
from nybble.backends.cuda.structures import S32_HIGH, S32_LOW
from nybble.graph import Quantize, Tensor
from nybble.lower import Step, Value, Window

#: Kinds of epilogue; values of ``native/gpu/kernels/epilogue.h``.
AS_THEY_ARE, NARROW, WIDE = 0, 1, 2


class Builder:
    """Parameters of one plan's steps for a batch.

    Parameters
    ----------
    plan : CudaPlan
    constants : Constants
    arena : int
        Address.
    images : int
        In the batch.
    """

    def __init__(self, plan: CudaPlan, constants: Constants, arena: int, images: int) -> None:
        self.plan = plan
        self.constants = constants
        self.images = images
        self._arena = arena

    def stored(self, value: Value) -> Stored:
        """The stored form of a value."""
        return self.plan.values[value.name]

    def address(self, value: Value) -> int:
        """Address of a value of the whole batch."""
        return self._arena + self.plan.offsets[value.name] * self.images

    def tensor(self, value: Value) -> structures.Tensor:
        """A value as the kernels' parameters describe it."""
        stored = self.stored(value)
        return structures.Tensor(self.address(value), stored.form, value.dtype.is_signed, stored.pitch, stored.channels)

    def pixels(self, value: Value) -> int:
        """Number of pixels of the whole batch."""
        return self.stored(value).pixels * self.images

    def layer_grid(self, result: Value) -> tuple[int, int]:
        """The grid of a kernel in which each thread computes eight channels of a pixel of a value."""
        stored = self.stored(result)
        return -(-self.pixels(result) * (stored.pitch // 8) // THREADS), 1

    def window(self, window: Window, source: Value, result: Value) -> structures.Window:
        """The geometry of a window between two values."""
        return structures.Window(
            *self.stored(source).extents,
            *self.stored(result).extents,
            *window.kernel_size,
            *window.stride,
            window.padding.top,
            window.padding.left,
            *window.dilation,
        )

    def epilogue(self, step: Step, result: Value | None = None) -> structures.Epilogue:
        """The epilogue of a step, whose result is stored as its own value, or as another one with as many channels."""
        result = step.result if result is None else result
        count = padded_channels(self.stored(result))
        found = structures.Epilogue(out=self.tensor(result), relu_low=S32_LOW, relu_high=S32_HIGH)
        if step.shortcut is not None:
            found.shortcut = self.tensor(step.shortcut)
        if step.shortcut is not None and step.shortcut_quantize is not None:
            found.shortcut_factor = self.factors(step.shortcut_quantize.factor, count)
            found.shortcut_shift = step.shortcut_quantize.shift
            found.shortcut_is_narrow = fits(step.shortcut.dtype.magnitude, step.shortcut_quantize)
        if step.relu is not None:
            found.relu_low = 0
            found.relu_high = S32_HIGH if step.relu.maximum is None else step.relu.maximum
        if step.quantize is not None:
            found.requantize = NARROW if is_narrow(step) else WIDE
            found.factor = self.factors(step.quantize.factor, count)
            found.shift = step.quantize.shift
            found.low, found.high = step.quantize.output_type.minimum, step.quantize.output_type.maximum
            if step.negative_factor is not None:
                found.negative_factor = self.constants.add(pack_channels(step.negative_factor.numpy(), np.int32, count))
            elif step.relu is not None and step.relu.maximum is None:
                # Requantizing keeps the order and 0: codes below 0 are those of sums below 0.
                found.relu_low, found.low = S32_LOW, max(found.low, 0)
        if step.table is not None and step.quantize is not None:
            self.set_table(found, step.table.table.numpy(), step.quantize.output_type.minimum)
        return found

    def set_table(self, epilogue: structures.Epilogue, entries: np.ndarray, low: int) -> None:
        """Add a table lookup of codes from ``low`` on. The table is stored as bytes."""
        epilogue.table = self.constants.add(entries.astype(np.int16).astype(np.uint8))
        epilogue.table_low = low

    def codes(self, step: Step) -> structures.Epilogue:
        """As :meth:`epilogue`, for kernels that only produce codes of 0 to 15 and only add such codes."""
        found = self.epilogue(step)
        if step.shortcut is not None and step.shortcut_quantize is None:
            found.shortcut_factor = self._ones(padded_channels(self.stored(step.result)))
        return found

    def addend(self, projection: Step, rescaling: Quantize | None, count: int) -> structures.Epilogue:
        """The epilogue of a projection, before its sums are added to those of ``channels`` channels."""
        quantize = projection.quantize
        found = structures.Epilogue(low=S32_LOW, high=S32_HIGH)
        found.factor = self._ones(count) if quantize is None else self.factors(quantize.factor, count)
        if quantize is not None:
            target = quantize.output_type
            found.shift, found.low, found.high = quantize.shift, target.minimum, target.maximum
        if projection.relu is not None:
            found.low = max(found.low, 0)
        found.shortcut_factor = self._ones(count) if rescaling is None else self.factors(rescaling.factor, count)
        found.shortcut_shift = 0 if rescaling is None else rescaling.shift
        return found

    def factors(self, factors: Tensor, count: int) -> int:
        """Address of ``count`` factors, zeros for padding."""
        return self.constants.add(pack_channels(factors.numpy(), np.uint32, count))

    def _ones(self, count: int) -> int:
        return self.constants.add(np.ones(count, np.uint32))


def padded_channels(stored: Stored) -> int:
    """Length of an array with one number per channel: the most that any tile of columns may read."""
    return -(-stored.pitch // 128) * 128
