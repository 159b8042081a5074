"""Histogram observers: they count every value of a tensor, in constant memory, over a range that grows.

The width of a bin is a power of two. If a larger value arrives, neighbouring bins are merged in pairs until it fits. No
count is lost, and since dividing by a power of two is exact, each value is in the bin where it would be if the wide
range had been known from the beginning. The counts therefore depend only on the values, not on their order or on their
distribution over workers: merging is exact, commutative and associative.
"""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nybble.graph.types import Array
from nybble.quantize.errors import QuantizeError

#: Below this exponent of the bin width a bin's reciprocal would overflow float32.
_SMALLEST_EXPONENT = -120
#: Values that are binned at a time. Intermediate results stay in the cache, and torch uses one thread for so few
#: values: threads would wait for each other after each of many short operations if a core is busy.
_CHUNK = (1 << 15) - 1
#: On a GPU larger chunks save launches.
_GPU_CHUNK = 1 << 22


class HistogramObserver:
    """Counts of a tensor's values, for :attr:`ActivationQuantizer.observer`.

    Parameters
    ----------
    name : str
        The tensor's name, for errors.
    signed : bool
        Whether negative values have their own bins. Otherwise they are only counted (``negatives``), since the type of
        the tensor cannot hold them.
    bins : int
        Bins for each sign; a power of two.

    Attributes
    ----------
    counts : ndarray
        int64 (bins,): bin ``i`` holds values above ``i * width``, up to and with ``(i + 1) * width``. Where signed,
        (2 * bins,): those of negative values, mirrored, come first. Exact zeros are not among them.
    zeros, negatives : int
        Exact zeros; negative values of an unsigned observer.
    minimum, maximum : float
        The extremes of all values; 0 before the first value.
    """

    def __init__(self, name: str, *, signed: bool, bins: int = 8192) -> None:
        if bins < 2 or bins & (bins - 1):
            raise QuantizeError(f"{name}: {bins} bins; a power of two is needed, so that neighbours can be merged")
        self.name = name
        self.signed = signed
        self.bins = bins
        self.counts: Array = np.zeros(2 * bins if signed else bins, dtype=np.int64)
        self.zeros = 0
        self.negatives = 0
        self.minimum = 0.0
        self.maximum = 0.0
        self._seen = False
        # log2 of the width; None while all values are zero.
        self._exponent: int | None = None

    @property
    def width(self) -> float:
        """Width of a bin: a power of two; 0 while all values are zero."""
        return 0.0 if self._exponent is None else math.ldexp(1.0, self._exponent)

    @property
    def total(self) -> int:
        """Values seen."""
        return int(self.counts.sum()) + self.zeros + self.negatives

    @property
    def magnitude(self) -> float:
        """Largest magnitude among the values that the type can hold: negative ones count only if it is signed."""
        return max(self.maximum, -self.minimum) if self.signed else max(self.maximum, 0.0)

    @torch.no_grad()
    def __call__(self, values: Tensor) -> None:
        """Count the values of a float tensor of any shape and memory format; in 16 bits and 64 as float32.

        Raises
        ------
        QuantizeError
            Naming the tensor, if a value is NaN or infinite; nothing of it is counted then.
        """
        if not values.numel():
            return
        flat = _flat(values.detach()).float()
        low, high = (float(bound) for bound in torch.aminmax(flat))
        if not (math.isfinite(low) and math.isfinite(high)):
            raise QuantizeError(
                f"{self.name}: a value is {'NaN' if math.isnan(low) or math.isnan(high) else 'infinite'}; "
                "look for a layer before it that divides by zero or overflows (mixed precision?), or a damaged weight"
            )
        self.minimum, self.maximum = (min(self.minimum, low), max(self.maximum, high)) if self._seen else (low, high)
        self._seen = True
        largest = max(high, -low) if self.signed else high
        if largest > 0:
            self._grow(self._exponent_for(largest))
        if self._exponent is None:  # Zeros, and negative values of an unsigned observer.
            below = int(torch.count_nonzero(flat))
            self.negatives += below
            self.zeros += flat.numel() - below
            return
        counts = sum(self._counts(part, self._exponent, low < 0) for part in flat.split(_chunk(flat.device)))
        self._add(counts)

    def _exponent_for(self, largest: float) -> int:
        """log2 of the width of the narrowest bins that hold the value."""
        fraction, power = math.frexp(largest)
        # fraction is 0.5 for a power of two, which is itself the end of the last bin.
        return max(_SMALLEST_EXPONENT, power - (fraction == 0.5) - (self.bins.bit_length() - 1))

    def _counts(self, values: Tensor, exponent: int, has_negatives: bool) -> Tensor:
        """int64 counts of bins, with that of zeros (and what an unsigned observer has no bins for) where 0 lies."""
        # Rounded up, so that zero alone is 0. Exact, as the factor is a power of two: a larger one cannot overflow, for
        # no value passes the last bin, and where a smaller one could underflow double precision cannot.
        if exponent > 0:
            scaled = values.double().mul_(math.ldexp(1.0, -exponent))
            indices = torch.empty_like(scaled, dtype=torch.int32)
        else:
            room, room_for_indices = _scratch(values.device)
            scaled, indices = room[: values.numel()], room_for_indices[: values.numel()]
            torch.mul(values, math.ldexp(1.0, -exponent), out=scaled)
        if self.signed:
            scaled.abs_().ceil_().copysign_(values).add_(self.bins)
        elif has_negatives:
            below = int(torch.count_nonzero(values < 0))
            self.negatives += below
            self.zeros -= below
            scaled.clamp_min_(0).ceil_()
        else:
            scaled.ceil_()
        indices.copy_(scaled)
        return torch.bincount(indices, minlength=len(self.counts) + 1)

    def _add(self, counts: Tensor | int) -> None:
        """Add the result of :meth:`_counts`."""
        found = torch.as_tensor(counts).cpu().numpy()
        zero = self.bins if self.signed else 0
        self.zeros += int(found[zero])
        self.counts += np.delete(found, zero)

    def _grow(self, exponent: int) -> None:
        """Make bins at least 2 ** exponent wide by merging neighbours; never narrower."""
        if self._exponent is None:
            self._exponent = exponent
            return
        doublings = exponent - self._exponent
        if doublings <= 0:
            return
        self._exponent = exponent
        kept = max(1, self.bins >> doublings)
        sides = self.counts.reshape(2 if self.signed else 1, kept, self.bins // kept).sum(axis=2)
        self.counts = np.zeros_like(self.counts)
        if self.signed:
            # Towards zero from either side: ceil(ceil(x / w) / 2 ** k) = ceil(x / (w * 2 ** k)).
            self.counts[self.bins - kept : self.bins] = sides[0]
            self.counts[self.bins : self.bins + kept] = sides[1]
        else:
            self.counts[:kept] = sides[0]

    def merge(self, other: HistogramObserver) -> None:
        """Add the counts of another observer of the same tensor; exact, in any order.

        Raises
        ------
        QuantizeError
            If the two differ in name, bins or sign.
        """
        for field in ("name", "signed", "bins"):
            mine, theirs = getattr(self, field), getattr(other, field)
            if mine != theirs:
                raise QuantizeError(f"{self.name}: histograms with {field} {mine!r} and {theirs!r} cannot be merged")
        if not other._seen:
            return
        if other._exponent is not None:
            self._grow(other._exponent)
            same = other.copy()
            same._grow(self._exponent if self._exponent is not None else other._exponent)
            self.counts += same.counts
        self.zeros += other.zeros
        self.negatives += other.negatives
        if self._seen:
            self.minimum, self.maximum = min(self.minimum, other.minimum), max(self.maximum, other.maximum)
        else:
            self.minimum, self.maximum, self._seen = other.minimum, other.maximum, True

    def copy(self) -> HistogramObserver:
        """A copy with the same counts."""
        twin = HistogramObserver(self.name, signed=self.signed, bins=self.bins)
        twin.load_state_dict(self.state_dict())
        return twin

    def state_dict(self) -> dict[str, Any]:
        """Everything counted, as numbers and one int64 tensor (``torch.load(weights_only=True)`` reads it)."""
        return {
            "signed": self.signed,
            "bins": self.bins,
            "counts": torch.from_numpy(self.counts.copy()),
            "exponent": self._exponent,
            "zeros": self.zeros,
            "negatives": self.negatives,
            "minimum": self.minimum,
            "maximum": self.maximum,
            "seen": self._seen,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Replace everything counted by what :meth:`state_dict` gave.

        Raises
        ------
        QuantizeError
            If it belongs to an observer of other bins or sign.
        """
        for field in ("signed", "bins"):
            if state[field] != getattr(self, field):
                raise QuantizeError(
                    f"{self.name}: the stored histogram has {field} {state[field]!r}, not {getattr(self, field)!r}; "
                    "calibrate anew (remove the work folder)"
                )
        self.counts = state["counts"].numpy().copy()
        self._exponent = state["exponent"]
        self.zeros, self.negatives = state["zeros"], state["negatives"]
        self.minimum, self.maximum, self._seen = state["minimum"], state["maximum"], state["seen"]

    def edges(self) -> Array:
        """float64 (len(counts) + 1,) bounds of the bins."""
        first = -self.bins if self.signed else 0
        return np.arange(first, self.bins + 1, dtype=np.float64) * self.width

    def magnitudes(self) -> Array:
        """int64 (bins,) counts of magnitudes, both signs together: bin i from ``i * width`` on."""
        if not self.signed:
            return self.counts
        negative: Array = self.counts[: self.bins][::-1]
        return negative + self.counts[self.bins :]


def _chunk(device: torch.device) -> int:
    return _CHUNK if device.type == "cpu" else _GPU_CHUNK


_kept = threading.local()


def _scratch(device: torch.device) -> tuple[Tensor, Tensor]:
    """Reused buffers for a chunk's scaled values and indices: new memory would take longer than the arithmetic."""
    if getattr(_kept, "device", None) != device:
        # Made in inference mode, they could not be written to outside of it.
        with torch.inference_mode(False):
            size = _chunk(device)
            _kept.room = torch.empty(size, device=device), torch.empty(size, device=device, dtype=torch.int32)
        _kept.device = device
    room: tuple[Tensor, Tensor] = _kept.room
    return room


def _flat(values: Tensor) -> Tensor:
    """All values in one dimension, without a copy where memory has no gaps."""
    if values.dim() == 4 and not values.is_contiguous():
        values = values.permute(0, 2, 3, 1)
    return values.reshape(-1)
