"""Average precision as COCO computes it (Lin et al. 2014; ``pycocotools.cocoeval``), over all areas."""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

import numpy as np

from nybble.graph.types import Array
from nybble.tasks.boxes import overlaps

#: Overlaps from which a box counts as found.
THRESHOLDS = np.linspace(0.5, 0.95, 10)
#: Most boxes of a class that count in one photo.
MOST_BOXES = 100
_RECALLS = np.linspace(0, 1, 101)


class _Class(NamedTuple):
    """All boxes found of one class, best first."""

    photo: Array
    right: Array


class DetectionMetric:
    """Boxes of one network, compared with the labelled ones.

    Parameters
    ----------
    threshold : float, optional
        One overlap, such as 0.5, in place of the ten from 0.5 to 0.95.
    """

    def __init__(self, threshold: float | None = None) -> None:
        self.name = "AP" if threshold is None else f"AP{round(100 * threshold)}"
        self._thresholds = THRESHOLDS if threshold is None else np.array([threshold])
        self._labelled: list[Array] = []
        self._found: defaultdict[int, list[tuple[int, Array, Array]]] = defaultdict(list)
        self._classes: dict[int, _Class] = {}

    def __len__(self) -> int:
        return len(self._labelled)

    def add(self, boxes: Array, scores: Array, labels: Array, true_boxes: Array, true_labels: Array) -> None:
        """Add a photo.

        Parameters
        ----------
        boxes, scores, labels : ndarray
            (N, 4) x1, y1, x2, y2, (N) and (N): what was found, in any order.
        true_boxes, true_labels : ndarray
            (M, 4) and (M).
        """
        photo = len(self._labelled)
        self._labelled.append(np.asarray(true_labels, dtype=np.int64))
        self._classes.clear()
        for label in np.unique(labels):
            mine = np.flatnonzero(labels == label)
            mine = mine[np.argsort(-scores[mine], kind="stable")][:MOST_BOXES]
            true = np.asarray(true_boxes, dtype=np.float64)[np.asarray(true_labels) == label]
            right = _matched(np.asarray(boxes, dtype=np.float64)[mine], true, self._thresholds)
            self._found[int(label)].append((photo, scores[mine], right))

    def value(self, weights: Array | None = None) -> float:
        """AP from 0 to 1, the mean over thresholds and over the classes that are labelled; see :class:`Metric`."""
        weights = np.ones(len(self), dtype=np.int64) if weights is None else weights
        return float(self.values(weights[None])[0])

    def values(self, weights: Array) -> Array:
        """:meth:`value` for each row of (resamples, photos) weights."""
        labels = sorted({int(label) for known in self._labelled for label in known})
        held = np.array([[int((known == label).sum()) for label in labels] for known in self._labelled])
        counts = weights @ held.reshape(len(self), len(labels))
        total = np.zeros(len(weights))
        for place, label in enumerate(labels):
            total += self._precisions(label, counts[:, place], weights)
        classes = (counts > 0).sum(axis=1)
        mean: Array = np.divide(total, classes, out=np.full(len(weights), np.nan), where=classes > 0)
        return mean

    def _precisions(self, label: int, counts: Array, weights: Array) -> Array:
        """The average precision of a class in each resample; 0 where it is not labelled."""
        total = np.zeros(len(weights))
        if label not in self._found:
            return total
        if label not in self._classes:
            self._classes[label] = _sorted(self._found[label])
        found = self._classes[label]
        weight = weights[:, found.photo]
        every = np.cumsum(weight, axis=1)
        for column in range(len(self._thresholds)):
            right = np.flatnonzero(found.right[:, column])
            if not len(right):
                continue
            hits = np.cumsum(weight[:, right], axis=1)
            precision = hits / np.maximum(every[:, right], 1)
            # At each recall, the best precision at this or any higher recall.
            best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
            recall = hits / np.maximum(counts, 1)[:, None]
            # How many of the 101 recalls each box is the first to reach.
            reached = np.diff(np.searchsorted(_RECALLS, recall, side="right"), axis=1, prepend=0)
            total += (best * reached).sum(axis=1)
        return np.where(counts > 0, total / (len(_RECALLS) * len(self._thresholds)), 0)


def _sorted(found: list[tuple[int, Array, Array]]) -> _Class:
    scores = np.concatenate([entry[1] for entry in found])
    order = np.argsort(-scores, kind="stable")
    photos = np.concatenate([np.full(len(entry[1]), entry[0]) for entry in found])
    return _Class(photos[order], np.concatenate([entry[2] for entry in found])[order])


def _matched(boxes: Array, true: Array, thresholds: Array) -> Array:
    """(boxes, thresholds): whether each box, best first, is the first to find a labelled one.

    Each is matched with the labelled box that it overlaps most, among those not yet matched at this threshold. Of
    several equal overlaps the last is taken.
    """
    right = np.zeros((len(boxes), len(thresholds)), dtype=bool)
    if not len(boxes) or not len(true):
        return right
    shared = overlaps(boxes, true)
    taken = np.zeros((len(thresholds), len(true)), dtype=bool)
    levels = np.arange(len(thresholds))
    for place in range(len(boxes)):
        free = np.where(taken, -1.0, shared[place])
        best = len(true) - 1 - free[:, ::-1].argmax(axis=1)
        hit = free[levels, best] >= np.minimum(thresholds, 1 - 1e-10)
        taken[levels[hit], best[hit]] = True
        right[place] = hit
    return right
