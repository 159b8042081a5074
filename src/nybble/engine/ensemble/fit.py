"""Fits temperatures by likelihood, and a threshold by the share of deferred photos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nybble.engine.ensemble.probabilities import calibrated, doubts, is_deferred
from nybble.engine.ensemble.settings import Measure
from nybble.graph.types import Array

#: Limits of temperatures. If every answer is right, the likelihood has no maximum.
LOWEST, HIGHEST = 0.05, 20.0
#: Bisections of the interval of the logarithm, for 9 digits.
_HALVINGS = 32


@dataclass(frozen=True)
class Point:
    """A cascade at one share of deferred photos.

    Attributes
    ----------
    share : float
        The requested share of photos that the second member runs on.
    asked : array
        (N,) integers: how many members ran.
    right : array
        (N,) bool: whether the answer was right.
    """

    share: float
    asked: Array
    right: Array

    def shares(self, members: int) -> list[float]:
        """The share of photos that each of ``members`` members ran on."""
        return [float((self.asked > place).mean()) for place in range(members)]


@dataclass(frozen=True)
class Outcome:
    """Cross-validated answers: each photo is evaluated with parameters found on other photos.

    Attributes
    ----------
    members : list of array
        For each member (N,) bool: whether its answer was right.
    mean : array
        (N,) bool: whether the mean of all members was right.
    points : list of Point
        The cascade at each share; empty without shares.
    """

    members: list[Array]
    mean: Array
    points: list[Point]


def fit_temperature(logits: Array, labels: Array) -> float:
    """The temperature that maximises the likelihood of the labels, within :data:`LOWEST` and :data:`HIGHEST`.

    Parameters
    ----------
    logits : array
        (N, classes).
    labels : array
        (N,) integers.

    Notes
    -----
    The logarithm of the likelihood is concave in the inverse of the temperature, so that its slope has one zero.
    """
    logits = logits.astype(np.float64)
    wanted = logits[np.arange(len(labels)), labels]

    def slope(temperature: float) -> float:
        expected = (calibrated(logits, temperature) * logits).sum(axis=1)
        return float((wanted - expected).sum())

    low, high = np.log(LOWEST), np.log(HIGHEST)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        # A positive slope means that the maximum is at a larger inverse.
        low, high = (low, middle) if slope(float(np.exp(middle))) > 0 else (middle, high)
    return round(float(np.exp((low + high) / 2)), 6)


def fit_threshold(probabilities: Array, measure: Measure, share: float) -> float:
    """The threshold that defers this share of the photos, or as close to it as ties permit.

    Parameters
    ----------
    probabilities : array
        (N, classes), calibrated.
    measure : str
    share : float
        0 to 1.
    """
    sorted_doubts = np.sort(doubts(probabilities, measure))[::-1]
    count = round(share * len(sorted_doubts))
    lowest, highest = (-1.0, 0.0) if measure == "margin" else (0.0, float(np.log(probabilities.shape[1])))
    before = sorted_doubts[count - 1] if count > 0 else highest
    after = sorted_doubts[count] if count < len(sorted_doubts) else lowest
    middle = float((before + after) / 2)
    if count == 0:  # No photo is more uncertain than the limit.
        middle = highest
    return abs(middle)


def fit_thresholds(said: Sequence[Array], measure: Measure, shares: Sequence[float]) -> list[float]:
    """The thresholds of all members but the last.

    Parameters
    ----------
    said : sequence of array
        (N, classes) calibrated probabilities of each member.
    measure : str
    shares : sequence of float
        Of all photos, those that the second, the third member and so on run on; none is larger than the one before.
    """
    thresholds = []
    rows = np.arange(len(said[0]))
    for place, share in enumerate(shares):
        mean = np.mean([some[rows] for some in said[: place + 1]], axis=0)
        part = min(share * len(said[0]) / len(rows), 1.0) if len(rows) else 0.0
        thresholds.append(fit_threshold(mean, measure, part))
        rows = rows[is_deferred(mean, measure, thresholds[-1])]
    return thresholds


def run_cascade(said: Sequence[Array], measure: Measure, thresholds: Sequence[float]) -> tuple[Array, Array]:
    """The answers of a cascade of members of equal weights: (N, classes) probabilities, and (N,) members that ran."""
    probabilities = said[0].copy()
    asked = np.ones(len(probabilities), np.int64)
    rows = np.arange(len(probabilities))
    for place, threshold in enumerate(thresholds):
        rows = rows[is_deferred(probabilities[rows], measure, threshold)]
        asked[rows] += 1
        probabilities[rows] = np.mean([some[rows] for some in said[: place + 2]], axis=0)
    return probabilities, asked


def cross_fit(
    logits: Sequence[Array],
    labels: Array,
    measure: Measure,
    cascades: Sequence[Sequence[float]],
    folds: int,
    seed: int = 0,
) -> Outcome:
    """Evaluate each fold of the photos with parameters found on the other folds.

    Parameters
    ----------
    logits : sequence of array
        (N, classes) of each member.
    labels : array
        (N,) integers.
    measure : str
    cascades : sequence
        For each point the shares of photos, as for :func:`fit_thresholds`.
    folds : int
        2 to N.
    """
    count = len(labels)
    if not 2 <= folds <= count:
        raise ValueError(f"folds must be in 2..{count}, the number of photos, got {folds}")
    fold = np.random.default_rng(seed).permutation(count) % folds
    members = [np.zeros(count, bool) for _ in logits]
    mean = np.zeros(count, bool)
    points = [Point(shares[0], np.zeros(count, np.int64), np.zeros(count, bool)) for shares in cascades]
    for number in range(folds):
        held, known = fold == number, fold != number
        temperatures = [fit_temperature(some[known], labels[known]) for some in logits]
        said = [calibrated(some[held], found) for some, found in zip(logits, temperatures, strict=True)]
        for right, probabilities in zip(members, said, strict=True):
            right[held] = is_right(probabilities, labels[held])
        mean[held] = is_right(np.mean(said, axis=0), labels[held])
        before = [calibrated(some[known], found) for some, found in zip(logits, temperatures, strict=True)]
        for point, shares in zip(points, cascades, strict=True):
            probabilities, point.asked[held] = run_cascade(said, measure, fit_thresholds(before, measure, shares))
            point.right[held] = is_right(probabilities, labels[held])
    return Outcome(members, mean, points)


def is_right(probabilities: Array, labels: Array) -> Array:
    """(N,) bool: whether the most probable class, the first of equal ones, is the label."""
    right: Array = probabilities.argmax(axis=1) == labels
    return right
