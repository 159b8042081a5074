"""Rounding of halves to even, as QuantizeLinear does it, composed of operations that the engine has.

Quantize rounds halves away from zero. With scales that have nothing to do with one another halves are rare; between
scales that are powers of two, or the same, they are frequent.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from nybble.graph.onnx.new_nodes import NewNodes
from nybble.graph.onnx.values import Real
from nybble.graph.ops import Add
from nybble.graph.rescale import Rescale
from nybble.graph.tensor import Tensor
from nybble.graph.types import Array, DType
from nybble.graph.value_type import MAX_SHIFT

#: The note on halves that are rounded to even: runtimes add float32 numbers, whose rounding decides some of them.
FLOATING = "step: halves go to the even neighbour; runtimes that compute in float32 differ in some"
#: Ratios of scales that are fractions with a denominator up to here make averages that are often halves.
SIMPLE = 64
#: Halves are reported if at least one sum in this many is a half.
RARE = 1 << 12
#: The largest denominator of a ratio of scales whose halves are rounded as in the file, which takes more nodes.
FREQUENT = 16
#: A ratio that exceeds a fraction by this part rounds halves away from zero, as nybble's files do.
ABOVE = 1 + 2.0**-25
#: Part of a scale by which the file's halves are no longer halves.
AWAY = 2.0**-24
#: Part by which a ratio of scales may differ from a fraction: a few roundings of float32.
NEAR = 2.0**-21


def simple_ratio(unit: Array, scale: Array) -> Fraction | None:
    """Steps of an average's inputs in steps of its result, if the ratio is one simple fraction."""
    ratios = unit / scale
    found = Fraction(float(ratios[0])).limit_denominator(SIMPLE)
    return found if found > 0 and np.all(np.abs(ratios / float(found) - 1) < NEAR) else None


def has_halves(ratio: Fraction, count: int = 1) -> bool:
    """Whether a sum of integers, times this and divided by the count, can be a half."""
    return (ratio / count).denominator % 2 == 0


def to_even(build: NewNodes, value: str, multiplier: Fraction, dtype: DType, name: str) -> str | None:
    """A sum times a fraction, rounded to the nearest integer and from halves to the even one, as an activation.

    Quantize rounds halves away from zero, or, with a factor that is smaller by next to nothing, towards zero. The two
    add up to ``d``, twice the rounded number or, for a half, twice the half. Doing the same to ``d / 4`` gives
    ``4j -> 2j, 4j + 1 -> 2j, 4j + 2 -> 2j + 1, 4j + 3 -> 2j + 2``: the halves ``4j + 1`` and ``4j + 3`` become even.

    Parameters
    ----------
    build : NewNodes
    value : str
        A sum.
    multiplier : Fraction
        Above 0.
    dtype : DType
        The type of the result, which also clips it.
    name : str
        The name of the result; the nodes before it are named after it.

    Returns
    -------
    str or None
        ``None`` if the factors have too few bits to distinguish halves from their neighbours.
    """
    magnitude = build.types[value].magnitude
    largest = MAX_SHIFT
    while largest > 0 and multiplier * (1 << largest) >= 1 << 31:
        largest -= 1
    exact = multiplier * (1 << largest)
    away = -(-exact.numerator // exact.denominator)
    # Off by less than one part in 2**shift, over all sums, which may not reach the nearest number that is not a half.
    if magnitude * 2 * multiplier.denominator >= 1 << largest or away < 2:
        return None
    sums = _both(build, value, away, largest, f"{name}_halves")
    small = _both(build, sums, 1 << (MAX_SHIFT - 2), MAX_SHIFT, f"{name}_even")
    return build.requantize(name, small, dtype, _ones(build, small), 0)


def quantized_to_even(build: NewNodes, real: Real, multiplier: Array, target: DType, name: str) -> str | None:
    """A value requantized with halves rounded to even, if they are frequent and nybble did not write the file."""
    ratio = None if build.is_ours else simple_ratio(real.unit, real.unit / multiplier)
    if (
        ratio is None
        or not has_halves(ratio)
        or ratio.denominator > FREQUENT
        or np.any(multiplier > float(ratio) * ABOVE)
    ):
        return None
    value = to_even(build, real.value, ratio, target, name)
    if value is not None:
        build.rounded(name, "halves", 0.5, FLOATING)
    return value


def report_halves(build: NewNodes, name: str, multiplier: Array, chosen: Rescale, magnitude: int) -> None:
    """Record that halves are rounded away from zero here and to even in the file, if many sums are halves."""
    factor = chosen.factor.numpy().astype(np.int64)
    off = multiplier * 2.0**chosen.shift / np.maximum(factor, 1) - 1
    low = (factor & -factor).astype(np.int64)
    one_in = 2.0**chosen.shift / np.maximum(low, 1)
    # A scale that is smaller by 2**-23, as nybble writes it, sends the file's halves away from zero too.
    exact = (np.abs(off) < AWAY) & (factor > 0) & (one_in > 1) & (one_in <= min(RARE, 2.0 * magnitude))
    if np.any(exact):
        often = int(one_in[exact].min())
        build.rounded(
            name,
            "halves",
            1.0,
            f"step: one sum in {often} is a half, which goes away from zero, in ONNX to the even neighbour",
        )


def _both(build: NewNodes, value: str, factor: int, shift: int, name: str) -> str:
    """The sum of a number rounded away from zero and the same towards zero; ``factor`` sends halves away."""
    parts = []
    for label, number in ((f"{name}_away", factor), (f"{name}_towards", factor - 1)):
        factors = Tensor.from_array(DType.U32, np.full(build.types[value].shape[0], number))
        parts.append(build.requantize(label, value, DType.S32, factors, shift))
    return build.add(Add(name=build.free(name), inputs=(parts[0], parts[1])))


def _ones(build: NewNodes, value: str) -> Tensor:
    return Tensor.from_array(DType.U16, np.ones(build.types[value].shape[0], int))
