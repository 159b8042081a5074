"""Mean intersection over union."""

from __future__ import annotations

import numpy as np

from nybble.graph.types import Array


class SegmentationMetric:
    """Maps of one network, compared with the labelled ones.

    Parameters
    ----------
    classes : int
        Labels of ``classes`` and above are void: their pixels do not count.
    void : int
        A class that does not count either. Pixels with this label are left out. As the answer for any other pixel it is
        wrong. -1 for none.
    """

    name = "mIoU"

    def __init__(self, classes: int, void: int = -1) -> None:
        self._classes = classes
        self._void = void
        self._tables: list[Array] = []

    def __len__(self) -> int:
        return len(self._tables)

    def add(self, labels: Array, true: Array) -> None:
        """Add a photo: the map (rows, columns) of the network and the labelled one, of any integer type.

        Raises
        ------
        ValueError
            Where their sizes differ.
        """
        if labels.shape != true.shape:
            raise ValueError(f"the map has the size {labels.shape}, but the labels have {true.shape}")
        counted = (true < self._classes) & (true >= 0) & (true != self._void)
        answer = labels[counted].astype(np.int64)
        # Answers that are no class are counted in a column of their own.
        answer = np.where((answer < 0) | (answer >= self._classes), self._classes, answer)
        cells = true[counted].astype(np.int64) * (self._classes + 1) + answer
        size = self._classes * (self._classes + 1)
        self._tables.append(np.bincount(cells, minlength=size).reshape(self._classes, -1))

    def per_class(self, weights: Array | None = None) -> Array:
        """Intersection over union of each class; NaN for one that is neither labelled nor the answer."""
        tables = np.stack(self._tables)
        weights = np.ones(len(tables), dtype=np.int64) if weights is None else weights
        table = np.tensordot(weights, tables, axes=1)
        right = np.diag(table)
        union = table.sum(axis=1) + table[:, : self._classes].sum(axis=0) - right
        found: Array = np.divide(right, union, out=np.full(self._classes, np.nan), where=union > 0)
        if 0 <= self._void < self._classes:
            found[self._void] = np.nan
        return found

    def value(self, weights: Array | None = None) -> float:
        """Mean over the classes, from 0 to 1; see :class:`Metric`."""
        found = self.per_class(weights)
        return float("nan") if np.isnan(found).all() else float(np.nanmean(found))

    def values(self, weights: Array) -> Array:
        """:meth:`value` for each row of (resamples, photos) weights."""
        return np.array([self.value(row) for row in weights])
