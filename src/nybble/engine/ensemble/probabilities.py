"""Calibrated probabilities of one network, and measures of their uncertainty."""

from __future__ import annotations

import numpy as np

from nybble.engine.ensemble.settings import Measure
from nybble.engine.scores import softmax
from nybble.graph.types import Array


def calibrated(logits: Array, temperature: float) -> Array:
    """(N, classes) logits to float64 probabilities: the softmax of the logits divided by the temperature."""
    return softmax(logits.astype(np.float64) / temperature)


def logarithms(probabilities: Array) -> Array:
    """float32 (N, classes) logits whose softmax equals the probabilities."""
    logits: Array = np.log(np.maximum(probabilities, np.finfo(np.float64).tiny)).astype(np.float32)
    return logits


def margins(probabilities: Array) -> Array:
    """(N,) differences of the two highest probabilities; 1 if there is only one class."""
    if probabilities.shape[1] < 2:
        return np.ones(len(probabilities))
    best = np.partition(probabilities, -2, axis=1)
    lead: Array = best[:, -1] - best[:, -2]
    return lead


def entropies(probabilities: Array) -> Array:
    """(N,) entropies in nats."""
    safe = np.where(probabilities > 0, probabilities, 1.0)
    entropy: Array = -(probabilities * np.log(safe)).sum(axis=1)
    return entropy


def doubts(probabilities: Array, measure: Measure) -> Array:
    """(N,) measures of uncertainty, larger for less certain answers: the negative margin, or the entropy."""
    return -margins(probabilities) if measure == "margin" else entropies(probabilities)


def is_deferred(probabilities: Array, measure: Measure, threshold: float) -> Array:
    """(N,) bool: whether the margin is below the threshold, or the entropy above it."""
    deferred: Array = (
        margins(probabilities) < threshold if measure == "margin" else entropies(probabilities) > threshold
    )
    return deferred
