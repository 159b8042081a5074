"""Intervals by resampling photos, also of the difference of two networks on the same photos."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from nybble.graph.types import Array

#: Resamples of an interval.
RESAMPLES = 1000


class Metric(Protocol):
    """Results of one network on a sequence of photos."""

    #: What the value is called, such as ``AP``.
    name: str

    def __len__(self) -> int:
        """How many photos there are."""
        ...

    def value(self, weights: Array | None = None) -> float:
        """The figure where each photo counts as often as its weight says; without weights, once.

        Parameters
        ----------
        weights : ndarray, optional
            int64 (photos).

        Returns
        -------
        float
            NaN where there is nothing to measure, such as boxes of no class.
        """
        ...

    def values(self, weights: Array) -> Array:
        """:meth:`value` for each row of (resamples, photos) weights: float64 (resamples)."""
        ...


class Interval(NamedTuple):
    """A figure and its 95 % interval by the bootstrap's percentiles (Efron 1979)."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float | None]:
        """Its three numbers; ``None`` for NaN, which JSON lacks."""
        return {name: None if np.isnan(value) else value for name, value in self._asdict().items()}


def value_with_interval(metric: Metric, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """The figure of one network and its interval over the choice of photos."""
    return _interval(metric.value(), metric.values(_weights(len(metric), resamples, seed)))


def paired_difference(first: Metric, second: Metric, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """The figure of ``second`` minus that of ``first`` on the same photos, and its interval.

    Both are resampled alike, so what makes photos hard for both does not widen the interval.

    Raises
    ------
    ValueError
        Where they have different numbers of photos.
    """
    if len(first) != len(second):
        raise ValueError(f"a paired difference needs the same photos, got {len(first)} and {len(second)}")
    weights = _weights(len(first), resamples, seed)
    return _interval(second.value() - first.value(), second.values(weights) - first.values(weights))


def _weights(photos: int, resamples: int, seed: int) -> Array:
    random = np.random.default_rng(seed)
    return random.multinomial(photos, np.full(photos, 1 / max(1, photos)), size=resamples)


def _interval(value: float, drawn: Array) -> Interval:
    known = drawn[~np.isnan(drawn)]
    if not len(known):
        return Interval(value, float("nan"), float("nan"))
    low, high = np.percentile(known, (2.5, 97.5))
    return Interval(value, float(low), float(high))
