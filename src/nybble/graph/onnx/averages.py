"""Averages, rounded as the runtime of a file rounds them, composed of sums.

QuantizeLinear rounds the halves of an average to even; the engine's average pool rounds them up, and its Quantize away
from zero. Where halves are frequent, this causes half of all differences between two runtimes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from nybble.graph.nodes import Padding, Pair
from nybble.graph.onnx.builder import Builder
from nybble.graph.onnx.halves import FLOATING, has_halves, simple_ratio, to_even
from nybble.graph.onnx.splitting import UPPER, split
from nybble.graph.onnx.values import Real
from nybble.graph.ops import Add, Conv2d
from nybble.graph.tensor import Tensor
from nybble.graph.types import Array, DType
from nybble.graph.value_type import MAX_ELEMENTS

#: Largest window that is summed by a convolution of ones.
MAX_WINDOW = 1 << 12


@dataclass(frozen=True)
class Window:
    """A window of an average pool in which every place counts the same number of samples."""

    kernel: Pair
    stride: Pair
    padding: Padding

    @property
    def count(self) -> int:
        """Samples, those of the padding too."""
        return self.kernel.rows * self.kernel.columns


def can_be_summed(build: Builder, value: str, window: Window) -> bool:
    """Whether a convolution of ones may stand for the pool: its weights are not too many."""
    return window.count <= MAX_WINDOW and build.types[value].shape[0] * window.count <= MAX_ELEMENTS // 16


def summed(build: Builder, value: str, window: Window, name: str, weight: int = 1) -> str:
    """The sum of each window, times a weight: a convolution with one channel per group."""
    reads = build.types[value]
    channels = reads.shape[0]
    dtype = DType.S4 if reads.dtype.bits == 4 and weight == 1 else DType.S8
    node = Conv2d(
        name=build.free(name),
        inputs=(value,),
        input_type=reads.dtype,
        weight=Tensor.from_array(dtype, np.full((channels, 1, *window.kernel), weight, np.int8)),
        stride=window.stride,
        padding=window.padding,
        groups=channels,
    )
    return build.add(node)


def of_sums(build: Builder, real: Real, window: Window, name: str) -> Real:
    """The average of sums that are not quantized. Pools read bytes, so the upper and the lower bytes are averaged."""
    real = build.settle(real, name)
    parts = split(build, real.value, real.unit, name)
    sides = (
        summed(build, parts.high, window, f"{name}_upper_sum", UPPER),
        summed(build, parts.low, window, f"{name}_lower_sum"),
    )
    total = build.add(Add(name=build.free(name), inputs=sides))
    return Real(total, parts.unit / window.count, True)


def at_once(build: Builder, real: Real, window: Window, scale: Array, dtype: DType, name: str) -> Real | None:
    """The average in steps of the QuantizeLinear behind, halves rounded to even; ``None`` if there can be none."""
    ratio = simple_ratio(real.unit, scale)
    if ratio is None or not has_halves(ratio, window.count):
        return None
    sums = summed(build, real.value, window, f"{name}_sum")
    value = to_even(build, sums, ratio / window.count, dtype, name)
    if value is None:
        return Real(sums, real.unit / window.count, True)
    build.rounded(name, "halves", 0.5, FLOATING)
    return replace(real, value=value, unit=scale, through=None)
