"""The answer for one photo, by the task that the model directory states."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from nybble.graph import Classify, Detect, Embed, Graph, GraphError, Restore, Segment, Task, Text
from nybble.graph.types import Array
from nybble.images import Fit
from nybble.images.names import known_classes
from nybble.tasks.detect import decode_boxes, softmax
from nybble.tasks.drawing import palette_of
from nybble.tasks.restore import decode_image, in_rgb
from nybble.tasks.results import Answer, Classes, Detections, Embedding, Restored, Segmentation
from nybble.tasks.segment import decode_map
from nybble.tasks.text import decode_text

#: Classes of a :class:`Classes`.
TOP = 5


def task_of(graph: Graph) -> Task:
    """The task of a network. If the model states none, a single output of one number per class means Classify.

    Raises
    ------
    GraphError
        Where the model states no task and its outputs do not tell.
    """
    if graph.task is not None:
        return graph.task
    if len(graph.outputs) == 1 and math.prod(graph.values[graph.outputs[0]].shape[1:]) == 1:
        return Classify(graph.outputs[0])
    raise GraphError(
        "the model has no file `task`, which says what its outputs mean (docs/tasks.md); `Engine.run` returns them",
        field="task",
    )


def task_names(graph: Graph) -> tuple[str, ...]:
    """The names of the classes of a task: the graph's own, or ``class 0``, ``class 1`` and so on."""
    task = task_of(graph)
    count = task.class_count(graph.values)
    if count is None:
        # The map holds class numbers of one byte: up to 256 classes.
        return tuple(f"class {index}" for index in range(256)) if isinstance(task, Segment) else ()
    if isinstance(task, Classify):
        names = known_classes(count, graph.class_names)
        return names if isinstance(names, tuple) else tuple(f"class {index}" for index in range(count))
    return graph.class_names or tuple(f"class {index}" for index in range(count))


def answer(
    graph: Graph,
    outputs: Mapping[str, Array],
    fit: Fit,
    samples: Array,
    *,
    score_threshold: float | None = None,
    top: int = TOP,
) -> Answer:
    """The answer for one photo, from the outputs.

    Parameters
    ----------
    graph : Graph
    outputs : mapping of str to ndarray
        Of one photo, without a batch axis: float32.
    fit : Fit
        Where the photo lies in the input.
    samples : ndarray
        The input of the network: uint8 (rows, columns, channels), or float32 with 1 for white.
    score_threshold : float, optional
        Least score of a box, in place of the task's.
    top : int
        Classes of a classification.

    Raises
    ------
    GraphError
        Where there is no task, or it does not fit the outputs.
    MissingPackageError
        Where a package of an extra is needed.
    """
    task = task_of(graph)
    if isinstance(task, Detect):
        found = decode_boxes(task, outputs, fit, score_threshold)
        return Detections(found.boxes, found.scores, found.labels, task_names(graph))
    if isinstance(task, Segment):
        names = task_names(graph)
        labels = decode_map(task, outputs[task.output], fit)
        return Segmentation(labels, names, palette_of(task.palette, len(names)), task.void)
    if isinstance(task, Restore):
        seen = samples.astype(np.float32) / np.float32(255) if samples.dtype == np.uint8 else samples
        made = decode_image(task, outputs[task.output], seen)
        return Restored(in_rgb(made, graph.preprocessing) if graph.preprocessing is not None else made)
    if isinstance(task, Text):
        return decode_text(task, outputs[task.output], fit)
    if isinstance(task, Embed):
        vector = outputs[task.output].reshape(-1).astype(np.float32)
        length = float(np.linalg.norm(vector))
        return Embedding(vector / np.float32(length) if task.normalise and length else vector)
    assert isinstance(task, Classify)  # noqa: S101
    scores = softmax(outputs[task.output].reshape(-1).astype(np.float64))
    best = np.argsort(-scores, kind="stable")[:top]
    return Classes(best.astype(np.int64), scores[best].astype(np.float32), task_names(graph))
