"""How well a network does its task, with the float network's answers in place of labels."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Any

from nybble.engine.predicting import predict
from nybble.graph import Graph
from nybble.graph.types import Array
from nybble.quantize.errors import QuantizeError
from nybble.quantize.fake.network import QuantizedNetwork
from nybble.quantize.lower.convert import convert
from nybble.quantize.pipeline.pictures import NetworkRunner, samples_of
from nybble.quantize.ptq.blocks import first_images
from nybble.tasks import Answer, Detections, Restored, Segmentation, TextBoxes
from nybble.tasks.metrics import DetectionMetric, Metric, RestorationMetric, SegmentationMetric, TextMetric
from nybble.tasks.results import SHOWN_SCORE


class TaskScore:
    """AP, mIoU or H-mean in per cent, or PSNR in dB, of networks on a few photos.

    Parameters
    ----------
    network : QuantizedNetwork
        Calibrated, with a task and preprocessing. It is left as it is; in mode ``float`` it gives what counts as right.
    batches : iterable
        As for :func:`nybble.quantize.sensitivity`.
    images : int, optional
        Use only the first so many.

    Raises
    ------
    QuantizeError
        If the task has no metric, or the float network finds nothing on these photos.
    """

    def __init__(self, network: QuantizedNetwork, batches: Iterable[Any], images: int | None = None) -> None:
        graph: Graph = convert(network)[0]
        preprocessing = graph.preprocessing
        if graph.task is None or preprocessing is None:
            raise QuantizeError("mixed.criterion=accuracy needs a task and preprocessing; choose sqnr")
        self._graph = graph
        parts = first_images(batches, images)
        self._samples: Sequence[Array] = [samples_of(image, preprocessing) for part in parts for image in part]
        exact = copy.deepcopy(network)
        exact.set_mode("float")
        self._right = self._answers(exact)
        found = [answer for answer in self._right if isinstance(answer, Detections | TextBoxes)]
        if found and not any(len(answer) for answer in found):
            raise QuantizeError(
                "the float network finds nothing on the calibration photos, so mixed.criterion=accuracy has nothing to "
                "compare; choose sqnr or other photos"
            )
        _metric(self._right[0])

    def __call__(self, network: QuantizedNetwork) -> float:
        """The metric of a network in the mode that it is in."""
        metric = _metric(self._right[0])
        for answer, right in zip(self._answers(network), self._right, strict=True):
            _count(metric, answer, right)
        value = metric.value()
        return value if isinstance(metric, RestorationMetric) else 100 * value

    def _answers(self, network: QuantizedNetwork) -> list[Answer]:
        runner = NetworkRunner(network, self._graph)
        answers = [predict(runner, samples) for samples in self._samples]
        if network.mode == "float":
            return [answer.above(SHOWN_SCORE) if isinstance(answer, Detections) else answer for answer in answers]
        return answers


def _metric(right: Answer) -> Metric:
    if isinstance(right, Detections):
        return DetectionMetric()
    if isinstance(right, Segmentation):
        return SegmentationMetric(len(right.names), right.void)
    if isinstance(right, Restored):
        return RestorationMetric()
    if isinstance(right, TextBoxes):
        return TextMetric()
    raise QuantizeError("mixed.criterion=accuracy: this task has no metric; choose sqnr")


def _count(metric: Metric, answer: Answer, right: Answer) -> None:
    if isinstance(metric, DetectionMetric) and isinstance(answer, Detections) and isinstance(right, Detections):
        metric.add(answer.boxes, answer.scores, answer.labels, right.boxes, right.labels)
    elif (
        isinstance(metric, SegmentationMetric) and isinstance(answer, Segmentation) and isinstance(right, Segmentation)
    ):
        metric.add(answer.labels, right.labels)
    elif isinstance(metric, RestorationMetric) and isinstance(answer, Restored) and isinstance(right, Restored):
        metric.add(answer.samples, right.samples)
    elif isinstance(metric, TextMetric) and isinstance(answer, TextBoxes) and isinstance(right, TextBoxes):
        metric.add(answer.polygons, right.polygons)
