"""Sums in two bytes, for what only activations can be read by: pools, and other signs or summands of any sum.

The upper byte counts 64 of the lower one's steps. A sum is first made small enough for 14 bits, 15 if it is not
negative, by its largest possible value; that is the only rounding.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from nybble.graph.onnx.new_nodes import NewNodes
from nybble.graph.onnx.rewriting import FINER, pointwise, rewritten
from nybble.graph.onnx.values import Real
from nybble.graph.ops import Add, ReLU
from nybble.graph.tensor import Tensor
from nybble.graph.types import Array, DType

#: How many steps of the lower byte a step of the upper one is.
UPPER = 64


@dataclass(frozen=True)
class Bytes:
    """A sum as two activations, ``UPPER * high + low``, in steps of ``unit``; ``is_rounded`` if those are coarser."""

    high: str
    low: str
    unit: Array
    is_rounded: bool


def split(build: NewNodes, value: str, unit: Array, name: str) -> Bytes:
    """Take a sum apart; ``unit`` is what a step of it stands for, (channels)."""
    reads = build.types[value]
    upper = DType.S8 if reads.dtype is DType.S32 else DType.U8
    shift = max(0, (reads.magnitude // (upper.maximum * UPPER)).bit_length())
    ones = Tensor.from_array(DType.U16, np.ones(reads.shape[0], int))
    if shift:
        value = build.requantize(f"{name}_fine", value, reads.dtype, ones, shift)
    high = build.requantize(f"{name}_upper", value, upper, ones, UPPER.bit_length() - 1)
    back = pointwise(build, high, np.full(len(unit), -UPPER), None, f"{name}_minus")
    rest = build.add(Add(name=build.free(f"{name}_rest"), inputs=(value, back)))
    low = build.requantize(f"{name}_lower", rest, DType.S8, ones, 0)
    return Bytes(high, low, unit * 2.0**shift, bool(shift))


def moved(build: NewNodes, real: Real, sign: Array, number: Array, name: str) -> Real:
    """A value times a sign plus a real number, (channels) both, as a sum.

    In the weights and the bias of what makes the value, where that is possible; else in nodes of its own. What is
    still to be clipped is ignored.
    """
    if not real.is_sum:
        value = pointwise(build, real.value, sign * FINER, number / real.unit * FINER, name)
        return replace(real, value=value, unit=real.unit / FINER, is_sum=True, through=None)
    changed = rewritten(build, real.value, sign, number / real.unit, name)
    if changed is not None:
        return replace(real, value=changed, through=None)
    parts = split(build, real.value, real.unit, name)
    if parts.is_rounded:
        build.rounded(name, "result", 0.5, f"in steps of {float(parts.unit.max()):.2g}: it is put together of bytes")
    high = pointwise(build, parts.high, sign * UPPER, number / parts.unit, f"{name}_upper_part")
    low = pointwise(build, parts.low, sign, None, f"{name}_lower_part")
    total = build.add(Add(name=build.free(name), inputs=(high, low)))
    return replace(real, value=total, unit=parts.unit, through=None)


def between(build: NewNodes, real: Real, name: str) -> Real:
    """A value with bounds of its own as a sum: moved to 0, a ReLU with a maximum, moved back."""
    free = replace(real, relu=None, low=None, high=None, clip=None)
    sign = np.ones(len(real.unit), np.int64)
    low = np.zeros_like(real.unit) if real.relu is not None else real.low
    if low is None:
        # Only an upper bound: turned over.
        if real.high is None:
            return free
        turned = _positive(build, moved(build, free, -sign, real.high, f"{name}_turned"), None, name)
        return moved(build, turned, -sign, real.high, f"{name}_back")
    extent = None if real.high is None else np.maximum(real.high - low, 0)
    raised = moved(build, free, sign, -low, f"{name}_moved") if np.any(low) else build.lift(free)
    kept = _positive(build, raised, extent, name)
    return moved(build, kept, sign, low, f"{name}_back") if np.any(low) else kept


def _positive(build: NewNodes, real: Real, extent: Array | None, name: str) -> Real:
    maximum = None
    if extent is not None:
        real, maximum = build.levelled(real, extent, name)
    reads = build.types[real.value].dtype
    node = ReLU(name=build.free(name), inputs=(real.value,), input_type=reads, maximum=maximum)
    return replace(real, value=build.add(node), is_sum=True, through=None)
