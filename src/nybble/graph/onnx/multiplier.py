"""Floating-point multipliers that requantize as the integers do.

A requantization is ``round(x * factor / 2**shift)`` with halves away from zero; a runtime has a floating-point product
and a rounding of halves to even. Both are monotone steps of ``x``, so they are equal everywhere if they agree on both
sides of every step of the result: at most 128 steps for an activation. :func:`requantizing` looks for a float32 that
does, close to ``factor / 2**shift``. It exists for nearly all shifts, since only few of the floats near the quotient
put a product on the wrong side of a half. If there is none, a float64 is used: its spacing is far smaller than the
distance of any product from a half.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from nybble.graph.errors import GraphError
from nybble.graph.onnx.units import SILENT, step_of
from nybble.graph.ops.roles import Requantization
from nybble.graph.types import SUM_LIMIT, SUMS, Array, DType

Float: TypeAlias = type[np.float32] | type[np.float64]

#: How far a multiplier may be from ``factor / 2**shift``, relative: an importer has to find the factor again.
REACH = 2.0**-22
#: Floats on either side of the best guess that are tried.
_TRIED = 8
#: Results up to here are exact in float32, fractions included.
_EXACT = 1 << 24
#: QuantizeLinear's scale behind merged weights: a quotient of it is larger by 2**-23, so that halves go away from zero.
AWAY = float(np.float32(1 / (1 + 2.0**-23)))


def requantizing(node: Requantization, magnitude: int) -> Array:
    """Multipliers with which rounding to even gives what ``node`` gives.

    Parameters
    ----------
    node : Quantize
        To an activation type.
    magnitude : int
        Largest magnitude of what it reads.

    Returns
    -------
    ndarray
        (channels): float32, or float64 where float32 holds no such number for some channel. A product of float32
        is rounded to float32 before it is rounded to an integer, one of float64 to float64.
    """
    factors, place = np.unique(node.factor.numpy().astype(np.int64), return_inverse=True)
    steps = _Steps(factors, node.shift, node.output_type, magnitude)
    found, is_right = steps.search(np.float32)
    if not is_right.all():
        found, is_right = steps.search(np.float64)
    # The bound: products at the steps are below 2**40, so that float64 holds them exactly and 2**12 more between them.
    assert is_right.all()  # noqa: S101
    return found[place]


def merged(node: Requantization, magnitude: int) -> Array | None:
    """Scales of weights with which a QuantizeLinear of scale :data:`AWAY` gives what ``node`` gives.

    It does so for a runtime that multiplies the integer sum by the quotient of the two scales, and for one that divides
    the exact real sum. Real sums are exact where a product needs at most 24 bits, as with shifts up to 16; then
    the scale is ``factor / 2**shift`` itself.

    Returns
    -------
    ndarray or None
        (channels): float32; ``None`` where some channel has no such scale.
    """
    factors, place = np.unique(node.factor.numpy().astype(np.int64), return_inverse=True)
    steps = _Steps(factors, node.shift, node.output_type, magnitude, AWAY)
    found, is_right = steps.search(np.float32)
    return found[place] if is_right.all() else None


def by_sign(factor: Array, negative_factor: Array, shift: int, dtype: DType, magnitude: int) -> tuple[Array, Array]:
    """Multipliers, and slopes of what is below 0 then, with which rounding to even gives what a PReLU gives.

    Parameters
    ----------
    factor, negative_factor : array
        (channels): of values from 0 on, and below.
    shift : int
    dtype : DType
        Of the result, an activation.
    magnitude : int
        Largest magnitude of what it reads.

    Returns
    -------
    tuple of two ndarrays
        (channels): float32, or float64 where float32 holds no such numbers for some channel.

    Raises
    ------
    GraphError
        If a factor is 0 where that of negative values is not.
    """
    above, below = factor.astype(np.int64), negative_factor.astype(np.int64)
    if np.any((above == 0) & (below != 0)):
        raise GraphError("its factor is 0 where that of negative values is not; export it with --exact")
    upper, lower = (_Steps(np.abs(part), shift, dtype, magnitude) for part in (above, below))
    for number in (np.float32, np.float64):
        multipliers, is_right = upper.search(number)
        slopes, is_sloped = lower.search_behind(multipliers)
        if is_right.all() and is_sloped.all():
            break
    # As above: two roundings of float64 move no product across a half.
    assert is_right.all() and is_sloped.all()  # noqa: S101
    return multipliers, slopes * np.sign(below).astype(slopes.dtype)


class _Steps:
    """The inputs at which the results of some factors increase, to compare with the results of multipliers.

    The multiplier is divided by ``divisor``, or the product is; both must be right.
    """

    def __init__(self, factors: Array, shift: int, dtype: DType, magnitude: int, divisor: float = 1.0) -> None:
        self._divisor = divisor
        self._results = np.arange(1, dtype.magnitude + 1, dtype=np.int64)
        halves = (2 * self._results - 1) << shift
        self._alive = factors > 0
        twice = 2 * np.maximum(factors, 1)[:, None]
        #: The least input that makes at least each result, and the largest that makes less.
        self._least = -(-halves[None, :] // twice)
        self._most = np.minimum(self._least - 1, magnitude)
        self._reached = self._least <= magnitude
        self._quotient = np.where(self._alive, factors / 2.0**shift, SILENT)
        #: Of the quotient as a fraction without common factors of 2: a product has so many steps in the largest result.
        odd = factors & -factors
        self._steps = (dtype.magnitude + 1) * np.maximum(1, 2.0**shift / np.maximum(1, np.minimum(odd, 2.0**shift)))

    def search(self, number: Float) -> tuple[Array, Array]:
        """The best multipliers of a floating-point type, and whether each is right."""
        best = self._guess().astype(number)
        is_right = self._check(best)
        for distance in range(1, _TRIED + 1):
            for direction in (np.inf, -np.inf):
                if is_right.all():
                    return best, is_right
                tried = best
                for _ in range(distance):
                    tried = np.nextafter(tried, number(direction))
                better = ~is_right & self._check(tried)
                best = np.where(better, tried, best)
                is_right |= better
        return best, is_right

    def search_behind(self, multipliers: Array) -> tuple[Array, Array]:
        """The best numbers by which to multiply products with ``multipliers``, and whether each is right."""
        number = multipliers.dtype.type
        with np.errstate(divide="ignore", invalid="ignore"):
            best = np.where(self._alive, self._guess() / multipliers, 0).astype(number)
        least, most = (places.astype(number) * multipliers[:, None] for places in (self._least, self._most))

        def check(tried: Array) -> Array:
            reached = np.rint(least * tried[:, None]) >= self._results
            below = np.rint(most * tried[:, None]) < self._results
            right: Array = ~self._alive | ((reached | ~self._reached) & below).all(axis=1)
            return right

        is_right = check(best)
        for distance in range(1, _TRIED + 1):
            for direction in (np.inf, -np.inf):
                tried = best
                for _ in range(distance):
                    tried = np.nextafter(tried, number(direction))
                better = ~is_right & check(tried)
                best = np.where(better, tried, best)
                is_right |= better
        return best, is_right

    def _guess(self) -> Array:
        """The middle of the possible range, within the distance from the quotient that an importer accepts."""
        halves = self._results - 0.5
        with np.errstate(divide="ignore"):
            low = np.where(self._reached, halves / self._least, 0.0).max(axis=1)
            high = np.where(self._most > 0, halves / np.maximum(self._most, 1), np.inf).min(axis=1)
        low = np.maximum(low, self._quotient * (1 - REACH))
        high = np.minimum(high, self._quotient * (1 + REACH))
        guess: Array = np.where(self._alive, (low + high) / 2 * self._divisor, self._quotient)
        if self._divisor != 1.0:
            guess = np.where(self._steps <= _EXACT, self._quotient, guess)
        return guess

    def _check(self, multipliers: Array) -> Array:
        number = multipliers.dtype.type
        divisor, factor = number(self._divisor), multipliers[:, None]
        is_right = np.ones(len(multipliers), bool)
        with np.errstate(over="ignore"):
            for before, after in ((factor / divisor, number(1)), (factor, divisor)):
                reached = np.rint(self._least.astype(number) * before / after) >= self._results
                below = np.rint(self._most.astype(number) * before / after) < self._results
                is_right &= ((reached | ~self._reached) & below).all(axis=1)
        return ~self._alive | is_right


def into_sum(node: Requantization, magnitude: int, dtype: DType) -> Array:
    """Multipliers with which rounding to even gives what ``node`` gives, which widens an activation to a sum.

    Parameters
    ----------
    node : Quantize
        To a sum.
    magnitude : int
        Largest magnitude of what it reads.
    dtype : DType
        Of what it reads.

    Returns
    -------
    ndarray
        (channels): float32 where every code gives the right sum, else float64. Of a sum that is requantized to a sum
        not all inputs can be tried: float64, exact while the products are below 2**50.
    """
    factors = node.factor.numpy().astype(np.int64)
    quotient = step_of(node)
    # Away from zero at halves: the next float64 but one moves products by less than a step of 2**-shift.
    wide: Array = quotient if node.shift == 0 else np.nextafter(np.nextafter(quotient, np.inf), np.inf)
    if dtype in SUMS:
        return wide
    codes = np.arange(1, min(magnitude, dtype.magnitude) + 1, dtype=np.int64)
    half = (1 << node.shift) >> 1
    wanted = (codes * factors[:, None] + half) >> node.shift
    if wanted.max(initial=0) > SUM_LIMIT:
        return wide
    candidate = quotient.astype(np.float32)
    best, is_right = candidate, np.zeros(len(candidate), bool)
    for _ in range(_TRIED):
        found = np.rint(codes.astype(np.float32) * candidate[:, None]).astype(np.int64)
        better = ~is_right & (found == wanted).all(axis=1)
        best, is_right = np.where(better, candidate, best), is_right | better
        candidate = np.nextafter(candidate, np.float32(np.inf))
    return best if is_right.all() else wide
