"""From logits to the best classes and probabilities."""

from __future__ import annotations

import numpy as np

from nybble.graph.types import Array


def ranked(logits: Array, top: int) -> Array:
    """(N, classes) logits to the (N, top) classes with the largest, best first; the lower index wins a tie."""
    order: Array = np.argsort(-logits, axis=1, kind="stable")[:, :top]
    return order


def softmax(logits: Array) -> Array:
    """(N, classes) logits to probabilities, in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    exponents = np.exp(shifted)
    shares: Array = exponents / exponents.sum(axis=1, keepdims=True)
    return shares
