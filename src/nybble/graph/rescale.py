"""A real multiplier as an integer factor and a shift."""

from __future__ import annotations

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
class Rescale:
    """``factor / 2**shift`` per channel, in place of a real multiplier.

    Attributes
    ----------
    factor : Tensor
        (K,) u16, or u32 where that does not fit.
    shift : int
    error : float
        The most that the rounded factors move a result, in steps of the result, over all channels and values.
    best_shift : int
        The shift that would have made the error least.
    best_error : float
        The error then.
    """

    factor: Tensor
    shift: int
    error: float
    best_shift: int
    best_error: float


def rescale(
    multiplier: Array, reach: Array, *, tolerance: float = TOLERANCE, shift: int | None = None, highest: int = MAX_SHIFT
) -> Rescale:
    """Choose factors and a shift: 16 if the error stays within ``tolerance``, else the least that brings it there.

    Parameters
    ----------
    multiplier : array
        (K,) float64, not negative.
    reach : array
        (K,) float64: the error of a result, in steps, for a multiplier that is off by one part in one.
    tolerance : float
    shift : int, optional
        Take this one, whatever the error.
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
    errors = {}
    for candidate in range(highest + 1):
        factor = np.rint(multiplier * 2.0**candidate)
        if factor.max() <= DType.U32.maximum:
            lost = np.abs(factor / 2.0**candidate - multiplier)
            relative = np.divide(lost, multiplier, out=np.zeros_like(lost), where=multiplier > 0)
            errors[candidate] = float((relative * reach).max())
    if not errors:
        raise GraphError(f"a multiplier of {multiplier.max():.3g} does not fit a factor of 32 bits")
    best = min(errors, key=lambda candidate: (errors[candidate], candidate))
    if shift is None:
        shift = _chosen(multiplier, errors, tolerance)
    elif shift not in errors:
        raise GraphError(f"with shift {shift}, a multiplier of {multiplier.max():.3g} does not fit 32 bits")
    factor = np.rint(multiplier * 2.0**shift).astype(np.int64)
    dtype = DType.U16 if factor.max() <= DType.U16.maximum else DType.U32
    return Rescale(Tensor.from_array(dtype, factor), shift, errors[shift], best, errors[best])


def _chosen(multiplier: Array, errors: dict[int, float], tolerance: float) -> int:
    largest = float(multiplier.max())
    # Up to 16, the finest that 16-bit factors allow; beyond, no finer than needed.
    short = [shift for shift in errors if np.rint(largest * 2.0**shift) <= DType.U16.maximum]
    preferred = max((shift for shift in short if shift <= PREFERRED_SHIFT), default=None)
    beyond = [shift for shift in (*short, *errors) if preferred is None or shift > preferred]
    for shift in (*([] if preferred is None else [preferred]), *beyond):
        if errors[shift] <= tolerance:
            return shift
    return min(errors, key=lambda candidate: (errors[candidate], candidate))
