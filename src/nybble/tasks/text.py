"""From DBNet's map to boxes of text (Liao et al. 2020). Needs ``nybble[text]``."""

from __future__ import annotations

from typing import Any

import numpy as np

from nybble.graph import Text
from nybble.graph.types import Array
from nybble.images import Fit
from nybble.tasks.detect import sigmoid
from nybble.tasks.packages import needed
from nybble.tasks.polygons import polygon_area
from nybble.tasks.results import TextBoxes


def decode_text(task: Text, output: Array, fit: Fit) -> TextBoxes:
    """The places of text in one photo.

    Parameters
    ----------
    task : Text
    output : ndarray
        (1, rows, columns) or (rows, columns) of one photo, of any size: it covers the input.
    fit : Fit
        Where the photo lies in the input.

    Raises
    ------
    MissingPackageError
        Without opencv-python-headless and pyclipper.
    GraphError
        Where the output is not a map.
    """
    cv2, pyclipper = needed("cv2", "text"), needed("pyclipper", "text")
    while output.ndim > 2 and output.shape[0] == 1:
        output = output[0]
    if output.ndim != 2:
        raise task.error("output", f"{task.output} has the shape {output.shape}, not (1, rows, columns)")
    likely = (sigmoid(output) if task.function == "sigmoid" else output).astype(np.float32)
    regions, _ = cv2.findContours((likely > task.threshold).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    boxes, scores = [], []
    for region in regions[: task.maximum]:
        box, side = _least_box(cv2, region)
        if side < task.shortest:
            continue
        score = _mean_inside(cv2, likely, box)
        if score < task.box_threshold:
            continue
        grown = _unclipped(pyclipper, box, task.unclip_ratio)
        if grown is None:
            continue
        box, side = _least_box(cv2, grown)
        if side < task.shortest + 2:
            continue
        boxes.append(box)
        scores.append(score)
    factor = np.array((fit.size[1] / likely.shape[1], fit.size[0] / likely.shape[0]))
    corners = np.array(boxes, dtype=np.float64).reshape(-1, 4, 2) * factor
    order = np.argsort(-np.array(scores), kind="stable")
    return TextBoxes(fit.points_to_photo(corners)[order], np.array(scores, dtype=np.float32)[order])


def _least_box(cv2: Any, points: Array) -> tuple[Array, float]:
    """The least rectangle around points, its corners clockwise from the top left, and its short side."""
    rectangle = cv2.minAreaRect(points.reshape(-1, 1, 2))
    corners = np.asarray(cv2.boxPoints(rectangle), dtype=np.float32)
    left = corners[np.argsort(corners[:, 0], kind="stable")]
    first, last = sorted(left[:2].tolist(), key=lambda point: point[1])
    second, third = sorted(left[2:].tolist(), key=lambda point: point[1])
    return np.array([first, second, third, last], dtype=np.float32), float(min(rectangle[1]))


def _mean_inside(cv2: Any, likely: Array, box: Array) -> float:
    """The mean of the map in a quadrilateral."""
    rows, columns = likely.shape
    low = np.clip(np.floor(box.min(axis=0)).astype(int), 0, (columns - 1, rows - 1))
    high = np.clip(np.ceil(box.max(axis=0)).astype(int), 0, (columns - 1, rows - 1))
    mask = np.zeros((high[1] - low[1] + 1, high[0] - low[0] + 1), dtype=np.uint8)
    cv2.fillPoly(mask, (box - low).reshape(1, -1, 2).astype(np.int32), 1)
    part = likely[low[1] : high[1] + 1, low[0] : high[0] + 1]
    return float(part[mask > 0].mean()) if mask.any() else 0.0


def _unclipped(pyclipper: Any, box: Array, ratio: float) -> Array | None:
    """A quadrilateral grown by area * ratio / perimeter; ``None`` where nothing is left."""
    area = abs(polygon_area(box.astype(np.float64)))
    perimeter = float(np.linalg.norm(box - np.roll(box, -1, axis=0), axis=1).sum())
    if not area or not perimeter:
        return None
    offset = pyclipper.PyclipperOffset()
    offset.AddPath(np.rint(box).astype(int).tolist(), pyclipper.JT_ROUND, pyclipper.ET_CLOSEDPOLYGON)
    grown = offset.Execute(area * ratio / perimeter)
    return np.array(grown[0], dtype=np.float32) if len(grown) == 1 else None
