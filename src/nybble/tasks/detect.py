"""From the outputs of a detector to boxes, by the data of the task (``nybble.graph.Detect``)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from nybble.graph import Detect, GraphError
from nybble.graph.types import Array
from nybble.images import Fit
from nybble.tasks.boxes import suppress


def sigmoid(x: Array) -> Array:
    """The logistic function, without overflow."""
    found: Array = 0.5 * (1 + np.tanh(0.5 * x))
    return found


def softmax(x: Array) -> Array:
    """Softmax over the last axis."""
    exponents = np.exp(x - x.max(axis=-1, keepdims=True))
    found: Array = exponents / exponents.sum(axis=-1, keepdims=True)
    return found


def _exp(x: Array) -> Array:
    # No box is larger than e^60 pixels; more would overflow once it is multiplied.
    found: Array = np.exp(np.minimum(x, 60.0))
    return found


_FUNCTIONS: Mapping[str, Callable[[Array], Array]] = {
    "linear": lambda x: x,
    "sigmoid": sigmoid,
    "softmax": softmax,
    "tanh": np.tanh,
    "exp": _exp,
    "relu": lambda x: np.maximum(x, 0),
}


class Found(NamedTuple):
    """Boxes in pixels of the photo, best first.

    Attributes
    ----------
    boxes : ndarray
        float32 (N, 4): x1, y1, x2, y2.
    scores : ndarray
        float32 (N).
    labels : ndarray
        int64 (N).
    """

    boxes: Array
    scores: Array
    labels: Array


def decode_boxes(task: Detect, outputs: Mapping[str, Array], fit: Fit, score_threshold: float | None = None) -> Found:
    """The boxes that a detector has found in one photo.

    They are clipped to the photo before suppression, so that their overlap is that of the parts inside the photo.

    Parameters
    ----------
    task : Detect
    outputs : mapping of str to ndarray
        Float outputs of one image, without a batch axis.
    fit : Fit
        Where the photo lies in the input.
    score_threshold : float, optional
        In place of the task's.

    Returns
    -------
    Found

    Raises
    ------
    GraphError
        If the shapes of the outputs do not fit the task.
    """
    levels = list(_levels(task, outputs))
    numbers = np.concatenate([level.boxes for level in levels])
    scores = _scores(task, levels)
    if len(numbers) != len(scores):
        raise task.error("scores", f"the outputs have {len(scores)} scores for {len(numbers)} boxes")
    place = _places(task, levels, fit.size, len(numbers))
    least = task.score_threshold if score_threshold is None else score_threshold
    if task.best_class:
        best = scores.argmax(axis=1)
        row = np.flatnonzero(scores[np.arange(len(scores)), best] >= least)
        label = best[row]
    else:
        row, label = np.nonzero(scores >= least)
    if not np.isfinite(numbers[row]).all():
        raise GraphError("the outputs hold NaN or infinity", field="task")
    boxes = fit.boxes_to_photo(_boxes(task, numbers[row], place, row, fit.size))
    chosen = scores[row, label].astype(np.float32)
    kept = suppress(boxes, chosen, label, task.nms_threshold, task.maximum)
    return Found(boxes[kept], chosen[kept], label[kept])


class _Level(NamedTuple):
    """The numbers of one level, one row for each box; ``cells`` are its rows and columns, where it has them."""

    boxes: Array
    scores: Array
    objectness: Array | None
    cells: tuple[int, int] | None


def _levels(task: Detect, outputs: Mapping[str, Array]) -> list[_Level]:
    made = []
    for place, name in enumerate(task.boxes):
        objectness = task.objectness[place] if task.objectness else None
        names = [name, task.scores[place], objectness]
        parts: list[Array | None] = []
        cells: tuple[int, int] | None = None
        for part, first, width, key in (
            (name, task.box_first, task.box_numbers, "boxes"),
            (task.scores[place], task.score_first, task.score_columns, "scores"),
            (objectness, task.objectness_first, 1, "objectness"),
        ):
            if part is None:
                parts.append(None)
                continue
            alone = names.count(part) == 1 and first == 0
            table, found = _table(task, outputs[part], part, width if alone else None)
            if table.shape[1] < first + width:
                raise task.error(
                    key, f"output {part} has {table.shape[1]} numbers for a box, but {first + width} are needed"
                )
            parts.append(table[:, first : first + width].astype(np.float64))
            cells = found if cells is None else cells
        boxes, scores, likely = parts
        assert boxes is not None and scores is not None  # noqa: S101
        made.append(_Level(boxes, scores, likely, cells))
    return made


def _table(task: Detect, output: Array, name: str, width: int | None) -> tuple[Array, tuple[int, int] | None]:
    """(boxes, numbers) of an output, and its rows and columns of cells; ``width`` is the numbers for one box."""
    flat = task.layout in ("rows", "columns")
    if flat:
        while output.ndim > 2 and 1 in output.shape:
            output = output.squeeze(output.shape.index(1))
    if output.ndim != (2 if flat else 3):
        raise task.error("layout", f"{task.layout} does not fit the shape {output.shape} of output {name}")
    if flat:
        return (output if task.layout == "rows" else output.T), None
    last = output if task.layout == "pixels" else output.transpose(1, 2, 0)
    rows, columns, channels = last.shape
    width = channels if width is None else width
    if channels % width:
        raise task.error("layout", f"output {name} has {channels} channels, no multiple of {width}")
    return last.reshape(-1, width), (rows, columns)


def _scores(task: Detect, levels: list[_Level]) -> Array:
    """(boxes, classes)."""
    scores = _FUNCTIONS[task.score_function](np.concatenate([level.scores for level in levels]))
    if task.background >= 0:
        scores = np.delete(scores, task.background, axis=1)
    scores = _power(scores, task.score_power)
    if task.objectness:
        likely = np.concatenate([level.objectness for level in levels if level.objectness is not None])
        if len(likely) != len(scores):
            raise task.error("objectness", f"the outputs have {len(likely)} numbers for {len(scores)} boxes")
        scores = scores * _power(_FUNCTIONS[task.objectness_function](likely), task.objectness_power)
    return scores


def _power(x: Array, power: float) -> Array:
    """``x ** power``; probabilities that rounding has made negative are 0."""
    found: Array = x if power == 1 else np.maximum(x, 0) ** power
    return found


class _Places(NamedTuple):
    """Column and row of the cell of each box, and its stride."""

    cell: Array
    stride: Array


def _places(task: Detect, levels: list[_Level], size: tuple[int, int], count: int) -> _Places | None:
    if task.form == "anchors":
        held = 0 if task.anchors is None else task.anchors.shape[0]
        if held != count:
            raise task.error("anchors", f"has {held} boxes, but the outputs have {count}")
    if task.form not in ("cells", "distances"):
        return None
    grids = [level.cells for level in levels]
    if grids[0] is None:
        grids = [(-(-size[0] // stride), -(-size[1] // stride)) for stride in task.strides]
    if len(grids) != len(task.strides):
        raise task.error("strides", f"has {len(task.strides)} values, but there are {len(grids)} levels")
    cells, strides = [], []
    total = sum(grid[0] * grid[1] for grid in grids if grid is not None)
    each, rest = divmod(count, total)
    if rest or not each:
        raise task.error("strides", f"make {total} cells, but the outputs have {count} boxes")
    for grid, stride in zip(grids, task.strides, strict=True):
        assert grid is not None  # noqa: S101
        rows, columns = np.divmod(np.repeat(np.arange(grid[0] * grid[1]), each), grid[1])
        cells.append(np.stack([columns, rows], axis=1))
        strides.append(np.full(len(rows), stride))
    return _Places(np.concatenate(cells).astype(np.float64), np.concatenate(strides).astype(np.float64))


def _boxes(task: Detect, t: Array, place: _Places | None, row: Array, size: tuple[int, int]) -> Array:
    """(N, 4) corners in pixels of the input, of the numbers of ``row``."""
    extent = np.array((size[1], size[0]), dtype=np.float64)
    if task.form == "anchors":
        assert task.anchors is not None  # noqa: S101
        anchors = task.anchors.numpy()[row].astype(np.float64)
        t = t * task.variances
        return _corners(anchors[:, :2] + t[:, :2] * anchors[:, 2:], _exp(t[:, 2:]) * anchors[:, 2:])
    size_of = _FUNCTIONS[task.size]
    if place is None:
        t = t * np.tile(extent, 2) if task.unit == "image" else t
        return t if task.form == "corners" else _corners(t[:, :2], t[:, 2:])
    cell, stride = place.cell[row], place.stride[row][:, None]
    if task.form == "distances":
        if task.bins:
            t = softmax(t.reshape(-1, 4, task.bins)) @ np.arange(task.bins, dtype=np.float64)
        sides = size_of(t) * stride
        point = (cell + task.centre_shift) * stride
        return np.concatenate([point - sides[:, :2], point + sides[:, 2:]], axis=1)
    centre = (_FUNCTIONS[task.centre](t[:, :2]) * task.centre_scale + task.centre_shift + cell) * stride
    return _corners(centre, size_of(t[:, 2:]) * (extent if task.unit == "image" else stride))


def _corners(centre: Array, size: Array) -> Array:
    found: Array = np.concatenate([centre - size / 2, centre + size / 2], axis=1)
    return found
