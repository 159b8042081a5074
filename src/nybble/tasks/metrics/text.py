"""Harmonic mean of precision and recall of text boxes, as at the ICDAR competitions (2015): overlap from 0.5."""

from __future__ import annotations

import numpy as np

from nybble.graph.types import Array
from nybble.tasks.polygons import polygon_overlaps


class TextMetric:
    """Quadrilaterals of one network, compared with the labelled ones; each is matched at most once.

    Parameters
    ----------
    threshold : float
        A pair matches if its intersection over union is above it.
    """

    name = "H-mean"

    def __init__(self, threshold: float = 0.5) -> None:
        self._threshold = threshold
        self._counts: list[tuple[int, int, int]] = []

    def __len__(self) -> int:
        return len(self._counts)

    def add(self, boxes: Array, true: Array) -> None:
        """Add a photo: (N, 4, 2) and (M, 4, 2) corners x, y of convex quadrilaterals."""
        shared = polygon_overlaps(boxes, true)
        matched = 0
        free = np.ones(shared.shape[1], dtype=bool)
        # In the order of the labels and then of the boxes, as the competition's script has it.
        for column in range(shared.shape[1]):
            for row in range(shared.shape[0]):
                if free[column] and shared[row, column] > self._threshold:
                    free[column] = False
                    shared[row] = 0
                    matched += 1
        self._counts.append((matched, len(boxes), len(true)))

    def value(self, weights: Array | None = None) -> float:
        """H-mean from 0 to 1; see :class:`Metric`."""
        counts = np.array(self._counts, dtype=np.int64).reshape(-1, 3)
        matched, found, true = counts.sum(axis=0) if weights is None else weights @ counts
        return float(2 * matched / (found + true)) if found + true else float("nan")

    def values(self, weights: Array) -> Array:
        """:meth:`value` for each row of (resamples, photos) weights."""
        return np.array([self.value(row) for row in weights])
