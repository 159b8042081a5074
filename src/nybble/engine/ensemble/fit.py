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
        The requested share.
    deferred : array
        (N,) bool: whether the second member ran.
    right : array
        (N,) bool: whether the answer was right.
    """

    share: float
    deferred: Array
    right: Array


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
        The cascade of the first two members at each share; empty without shares.
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


def cross_fit(
    logits: Sequence[Array], labels: Array, measure: Measure, shares: Sequence[float], folds: int, seed: int = 0
) -> Outcome:
    """Evaluate each fold of the photos with parameters found on the other folds.

    Parameters
    ----------
    logits : sequence of array
        (N, classes) of each member.
    labels : array
        (N,) integers.
    measure : str
    shares : sequence of float
        Shares of deferred photos, one for each point.
    folds : int
        2 to N.
    """
    count = len(labels)
    if not 2 <= folds <= count:
        raise ValueError(f"folds must be in 2..{count}, the number of photos, got {folds}")
    fold = np.random.default_rng(seed).permutation(count) % folds
    members = [np.zeros(count, bool) for _ in logits]
    mean = np.zeros(count, bool)
    points = [Point(share, np.zeros(count, bool), np.zeros(count, bool)) for share in shares]
    for number in range(folds):
        held, known = fold == number, fold != number
        temperatures = [fit_temperature(some[known], labels[known]) for some in logits]
        said = [calibrated(some[held], found) for some, found in zip(logits, temperatures, strict=True)]
        for right, probabilities in zip(members, said, strict=True):
            right[held] = is_right(probabilities, labels[held])
        mean[held] = is_right(np.mean(said, axis=0), labels[held])
        first = calibrated(logits[0][known], temperatures[0])
        for point in points:
            deferred = is_deferred(said[0], measure, fit_threshold(first, measure, point.share))
            both = np.mean(said[:2], axis=0)
            point.deferred[held] = deferred
            point.right[held] = is_right(np.where(deferred[:, None], both, said[0]), labels[held])
    return Outcome(members, mean, points)


def is_right(probabilities: Array, labels: Array) -> Array:
    """(N,) bool: whether the most probable class, the first of equal ones, is the label."""
    right: Array = probabilities.argmax(axis=1) == labels
    return right
