"""Boxes: overlap and non-maximum suppression. A box is x1, y1, x2, y2."""

from __future__ import annotations

import numpy as np

from nybble.graph.types import Array


def areas(boxes: Array) -> Array:
    """Areas of (N, 4) boxes."""
    found: Array = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return found


def overlaps(first: Array, second: Array) -> Array:
    """Intersection over union of (N, 4) and (M, 4) boxes: (N, M). Of two boxes without area it is 0."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=2)
    union = areas(first)[:, None] + areas(second)[None, :] - shared
    found: Array = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return found


def suppress(boxes: Array, scores: Array, labels: Array, threshold: float | None, maximum: int) -> Array:
    """Non-maximum suppression per class.

    From the best box on, each drops those of its class that overlap it by more than ``threshold``, as in torchvision
    and ONNX.

    Parameters
    ----------
    boxes : ndarray
        (N, 4).
    scores, labels : ndarray
        (N).
    threshold : float or None
        ``None`` drops nothing.
    maximum : int
        Boxes to keep.

    Returns
    -------
    ndarray
        int64 indices of the boxes that stay, best first; of equal scores the lower index first.
    """
    order = np.argsort(-scores, kind="stable")
    if threshold is None:
        return order[:maximum]
    kept: list[int] = []
    while len(order) and len(kept) < maximum:
        best, order = order[0], order[1:]
        kept.append(int(best))
        rivals = np.flatnonzero(labels[order] == labels[best])
        shared = overlaps(boxes[best][None], boxes[order[rivals]])[0]
        order = np.delete(order, rivals[shared > threshold])
    return np.array(kept, dtype=np.int64)
