"""Single steps of the native module, without plan and graph: values cut out of one input, one step, its result."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nybble import _native
from nybble.graph import DType
from nybble.graph.types import Array

ARENA = 1 << 20
ELEMENTS = {DType.U4: "u8", DType.U7: "u8", DType.U8: "u8", DType.S4: "s8", DType.S8: "s8", DType.S32: "s32"}


def requantize(values: Array, factor: Array, shift: int, target: DType) -> Array:
    """What `Quantize` says, of (N, C, H, W) integers, in 64 bits."""
    product = values.astype(np.int64) * factor.astype(np.int64)[:, None, None]
    magnitude = (np.abs(product) + ((1 << shift) >> 1)) >> shift
    return np.clip(np.where(product < 0, -magnitude, magnitude), target.minimum, target.maximum)


def codes(dtype: DType) -> Array:
    """Every code of an activation type, in ascending order."""
    return np.arange(dtype.minimum, dtype.maximum + 1)


@dataclass
class Epilogue:
    """What a step does with its sums: ReLU, requantize, table; `None` leaves a part out."""

    relu: int | None = None
    factor: Array | None = None
    shift: int = 0
    codes: DType = DType.S32
    table: Array | None = None
    output: DType = DType.S32

    def set(self, spec: _native.ConvSpec | _native.PointSpec | _native.MulSpec) -> None:
        """Fill in the fields of a native specification."""
        if self.relu is not None:
            spec.relu, spec.relu_maximum = True, self.relu
        if self.factor is not None:
            rule = _native.Requantize()
            rule.factor, rule.shift = self.factor.tolist(), self.shift
            rule.low, rule.high = self.codes.minimum, self.codes.maximum
            spec.requantize, spec.rule = True, rule
        if self.table is not None:
            spec.table = self.table.tolist()

    def expected(self, sums: Array) -> Array:
        """The same on (N, C, H, W) sums, by definition."""
        values = sums
        if self.relu is not None:
            values = np.clip(values, 0, self.relu)
        if self.factor is not None:
            values = requantize(values, self.factor, self.shift, self.codes)
        if self.table is not None:
            values = self.table[values - self.codes.minimum]
        return values.astype(self.output.storage)


class Steps:
    """A program whose input is bytes, and the values that steps have cut out of it. Offsets never overlap.

    Parameters
    ----------
    isa, threads, together
        Of the program; `together` images go through it at a time.
    shape
        Of the input, (C, H, W).
    """

    def __init__(self, isa: str, shape: tuple[int, int, int], threads: int = 1, together: int = 3) -> None:
        self.isa = isa
        self.program = _native.Program(isa=isa, threads=threads, most_images=together, arena_bytes=ARENA)
        self.offset = 0
        self.shapes: dict[int, tuple[int, int, int]] = {}
        self.types: dict[int, DType] = {}
        self.input = self.value(DType.U8, shape, tight=True)
        self.program.set_input(self.input)

    def value(self, dtype: DType, shape: tuple[int, int, int], tight: bool = False) -> int:
        """A value of its own memory."""
        value = self.program.add_value(ELEMENTS[dtype], *shape, tight, self.offset)
        channels, rows, columns = shape
        self.offset += (-(-channels // 32) * 32 * rows * columns * dtype.storage.itemsize + 64 + 63) // 64 * 64
        self.shapes[value], self.types[value] = shape, dtype
        return value

    def lists(self, value: int, group: int) -> int:
        """Lists of a value, in blocks of 16 groups."""
        channels, rows, columns = self.shapes[value]
        lists = self.program.add_lists(value, group, 16, self.offset)
        self.offset += (rows * columns * (-(-channels // 32) * 32 + 32) * 6 + 63) // 64 * 64
        return lists

    def cut(self, dtype: DType, first: int, channels: int, *, gate: bool = False) -> int:
        """Some channels of the input less 128 if the type is signed; of a gate, those of the first pixel."""
        inputs, rows, columns = self.shapes[self.input]
        window = (rows, columns) if gate else (1, 1)
        weights = np.zeros((channels, inputs, *window), np.int8)
        weights[np.arange(channels), first + np.arange(channels), 0, 0] = 1
        spec = _native.ConvSpec()
        spec.input, spec.method, spec.magnitude = self.input, "direct", 255
        spec.kernel_h, spec.kernel_w = window
        spec.bias = [-128 if dtype.is_signed else 0] * channels
        Epilogue(factor=np.ones(channels, np.int64), codes=dtype).set(spec)
        spec.output = self.value(dtype, (channels, 1, 1) if gate else (channels, rows, columns))
        self.program.add_conv(spec, weights)
        return spec.output

    def run(self, output: int, images: Array) -> Array:
        """The value that a step wrote, of (N, C, H, W) bytes."""
        self.program.set_outputs([output])
        result = np.empty((len(images), *self.shapes[output]), self.types[output].storage)
        self.program.run_integer(images, result.view(np.uint8))
        return result


def images_of(random: np.random.Generator, count: int, shape: tuple[int, int, int]) -> Array:
    """Random bytes, every other value at an end of the range."""
    images = random.integers(0, 256, (count, *shape))
    extreme = random.choice((0, 1, 15, 16, 127, 128, 254, 255), images.shape)
    return np.where(random.random(images.shape) < 0.5, images, extreme).astype(np.uint8)
