"""A real multiplier as an integer factor and a shift."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from nybble.graph.errors import GraphError
from nybble.graph.tensor import Tensor
from nybble.graph.types import Array, DType
from nybble.graph.value_type import MAX_SHIFT

#: The shift for which engines have their fastest exact epilogues.
PREFERRED_SHIFT = 16
#: Error, in steps of the result, up to which the preferred shift is taken.
TOLERANCE = 1 / 16


@dataclass(frozen=True)
class Candidate:
    """Factors of a type with a shift, and the error that rounding them causes, in a unit that the caller chooses."""

    factor: Array
    dtype: DType
    shift: int
    error: float

    def tensor(self) -> Tensor:
        """The factors as a node has them."""
        return Tensor.from_array(self.dtype, self.factor)


def choose(
    candidates: Iterable[Candidate], tolerance: float, otherwise: Collection[Candidate] | None = None
) -> Candidate:
    """The first candidate whose error is at most ``tolerance``; later ones are not computed.

    If there is none: the one with the least error, among all or among ``otherwise`` if that is given. Of equal ones the
    first.
    """
    refused = []
    for candidate in candidates:
        if candidate.error <= tolerance:
            return candidate
        refused.append(candidate)
    return min(refused if otherwise is None else otherwise, key=lambda candidate: candidate.error)


@dataclass(frozen=True)
class Rescale:
    """``factor / 2**shift`` per channel, in place of a real multiplier.

    Attributes
    ----------
    factor : Tensor
        (K,) u16, or u32 where that does not fit.
    shift : int
    error : float
        The largest change of a result by the rounding of factors, in steps of the result, over all channels and values.
    best_shift : int
        The shift with the least error.
    best_error : float
        The error with that shift.
    """

    factor: Tensor
    shift: int
    error: float
    best_shift: int
    best_error: float


def rescale(
    multiplier: Array, reach: Array, *, tolerance: float = TOLERANCE, shift: int | None = None, highest: int = MAX_SHIFT
) -> Rescale:
    """Choose factors and a shift: 16 if the error is within ``tolerance``, else the smallest shift for which it is.

    Parameters
    ----------
    multiplier : array
        (K,) float64, not negative.
    reach : array
        (K,) float64: the error of a result, in steps, for a multiplier that is off by one part in one.
    tolerance : float
    shift : int, optional
        Use this shift, for any error.
    highest : int
        Largest shift to take.

    Returns
    -------
    Rescale

    Raises
    ------
    GraphError
        If no factor of 32 bits expresses a multiplier.
    """
    found = {}
    for candidate in range(highest + 1):
        factor = np.rint(multiplier * 2.0**candidate)
        if factor.max() <= DType.U32.maximum:
            lost = np.abs(factor / 2.0**candidate - multiplier)
            relative = np.divide(lost, multiplier, out=np.zeros_like(lost), where=multiplier > 0)
            dtype = DType.U16 if factor.max() <= DType.U16.maximum else DType.U32
            found[candidate] = Candidate(factor.astype(np.int64), dtype, candidate, float((relative * reach).max()))
    if not found:
        raise GraphError(f"a multiplier of {multiplier.max():.3g} does not fit a factor of 32 bits")
    best = min(found.values(), key=lambda candidate: candidate.error)
    if shift is None:
        chosen = choose(_in_order(found), tolerance, found.values())
    elif shift in found:
        chosen = found[shift]
    else:
        raise GraphError(f"with shift {shift}, a multiplier of {multiplier.max():.3g} does not fit 32 bits")
    return Rescale(chosen.tensor(), chosen.shift, chosen.error, best.shift, best.error)


def _in_order(found: Mapping[int, Candidate]) -> list[Candidate]:
    """Up to 16, the finest shift that 16-bit factors allow; beyond, no finer than needed."""
    short = [shift for shift, candidate in found.items() if candidate.dtype is DType.U16]
    preferred = max((shift for shift in short if shift <= PREFERRED_SHIFT), default=None)
    beyond = [shift for shift in (*short, *found) if preferred is None or shift > preferred]
    return [found[shift] for shift in (*([] if preferred is None else [preferred]), *beyond)]
