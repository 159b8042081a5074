"""The accuracy of a network on labelled photos, by the metrics of its task."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from nybble.graph import Detect, Graph, GraphError, Preprocessing, Restore, Segment, Text
from nybble.graph.types import Array
from nybble.images import ImageError, LeftOut, decode_photo
from nybble.tasks.answer import task_names, task_of
from nybble.tasks.labelled import Labelled, open_labelled
from nybble.tasks.metrics import DetectionMetric, Metric, RestorationMetric, SegmentationMetric, TextMetric
from nybble.tasks.results import Answer, Detections, Restored, Segmentation, TextBoxes


class Evaluation:
    """A set of labelled photos and the metrics of a network on it.

    Parameters
    ----------
    graph : Graph
        With a task other than classify and embed.
    folder : str or Path
        As :func:`nybble.tasks.labelled.open_labelled` takes it.
    limit : int, optional
        Only the first photos.
    noise : float, optional
        For a restoring network, the standard deviation, in samples of 0 to 255, of noise to add to clean images: for
        photo i that of ``numpy.random.default_rng(i).normal``, not clipped.

    Attributes
    ----------
    photos : list of Labelled
    metrics : list of Metric
        The first is the figure of the task.

    Raises
    ------
    GraphError
        Where the task has no metric here.
    ImageError
        As ``open_labelled``.
    """

    def __init__(self, graph: Graph, folder: str | Path, limit: int | None = None, noise: float | None = None) -> None:
        self._graph = graph
        task = self._task = task_of(graph)
        self._noise = noise
        self.metrics: list[Metric]
        names = task_names(graph)
        if isinstance(task, Detect):
            self.metrics = [DetectionMetric(), DetectionMetric(0.5)]
        elif isinstance(task, Segment):
            self.metrics = [SegmentationMetric(len(names), task.void)]
        elif isinstance(task, Restore):
            self.metrics = [RestorationMetric()]
        elif isinstance(task, Text):
            self.metrics = [TextMetric()]
        else:
            raise GraphError(f"the task {task.kind} is not evaluated on labelled boxes, masks or images", field="task")
        if noise is not None and not isinstance(task, Restore):
            raise GraphError(f"noise is added for the task restore, not for {task.kind}", field="task")
        self.photos: list[Labelled] = open_labelled(task, folder, names, limit)

    def run(self, predict: Callable[[Path | Array], Answer], left_out: LeftOut) -> Iterator[Labelled]:
        """Predict each photo and update the metrics; yields each photo when it is done.

        Parameters
        ----------
        predict : callable
            From a photo, or float32 samples (rows, columns, channels) with 1 for white, to its answer.
        left_out : LeftOut
            Takes photos that cannot be read.
        """
        for number, photo in enumerate(self.photos):
            try:
                self._add(number, photo, predict)
            except ImageError as error:
                left_out.add(photo.file, error.message)
            yield photo

    def _add(self, number: int, photo: Labelled, predict: Callable[[Path | Array], Answer]) -> None:
        if isinstance(self._task, Restore):
            clean = _samples(photo.clean or photo.path, self._graph.preprocessing)
            given: Path | Array = photo.path
            if self._noise is not None:
                random = np.random.default_rng(number)
                noise = random.normal(0, self._noise / 255, clean.shape)
                given = (clean + noise).astype(np.float32)
            self._count(predict(given), photo, clean)
            return
        self._count(predict(photo.path), photo, None)

    def _count(self, answer: Answer, photo: Labelled, clean: Array | None) -> None:
        for metric in self.metrics:
            if isinstance(metric, DetectionMetric) and isinstance(answer, Detections):
                width, height = decode_photo(photo.path, exif=False).size
                metric.add(answer.boxes, answer.scores, answer.labels, photo.boxes_in(width, height), photo.labels)
            elif isinstance(metric, SegmentationMetric) and isinstance(answer, Segmentation):
                size = (answer.labels.shape[0], answer.labels.shape[1])
                metric.add(answer.labels, photo.read_mask(size))
            elif isinstance(metric, RestorationMetric) and isinstance(answer, Restored) and clean is not None:
                if answer.samples.shape != clean.shape:
                    raise ImageError(
                        photo.clean, f"has the shape {clean.shape}, but the network's image has {answer.samples.shape}"
                    )
                metric.add(answer.samples, clean)
            elif isinstance(metric, TextMetric) and isinstance(answer, TextBoxes) and photo.polygons is not None:
                metric.add(answer.polygons, photo.polygons)

    def counted(self) -> int:
        """The number of photos in the metrics."""
        return len(self.metrics[0])


def _samples(path: Path, preprocessing: Preprocessing | None) -> Array:
    """float32 (rows, columns, channels) of an image at its own size, 1 for white, in RGB order or gray."""
    image = decode_photo(path, exif=False)
    if preprocessing is not None and len(preprocessing.mean) == 1:
        image = image.convert("L")
    samples = np.asarray(image, dtype=np.float32) / np.float32(255)
    return samples.reshape(image.height, image.width, -1)
