"""Trained float networks by ONNX Runtime: their decoding gives the figures that the shared data states."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from task_networks import (
    DNCNN,
    ESPNET,
    ESPNET_INPUT,
    FASTESTDET,
    FASTESTDET_INPUT,
    YOLOX,
    YOLOX_INPUT,
    OnnxNetwork,
    dncnn,
    gray,
)

from nybble.graph import Detect, Preprocessing
from nybble.tasks import decode_boxes, decode_image, decode_map
from nybble.tasks.labelled import open_labelled
from nybble.tasks.metrics import DetectionMetric, RestorationMetric, SegmentationMetric

pytestmark = pytest.mark.data

NAMES = [f"class {index}" for index in range(80)]


@pytest.mark.parametrize(
    ("file", "task", "preprocessing", "photos", "expected"),
    [
        # Of 64 photos: AP 0.2192 and AP50 0.3920; 0.3486 and 0.5272.
        ("fastestdet.onnx", FASTESTDET, FASTESTDET_INPUT, 6, (0.2343, 0.4498)),
        ("yolox_nano.onnx", YOLOX, YOLOX_INPUT, 6, (0.3933, 0.6533)),
    ],
)
def test_detectors(
    shared_data: Path,
    file: str,
    task: Detect,
    preprocessing: Preprocessing,
    photos: int,
    expected: tuple[float, float],
) -> None:
    pytest.importorskip("onnxruntime")
    network = OnnxNetwork(shared_data / "task-networks" / file, preprocessing)
    metrics = DetectionMetric(), DetectionMetric(0.5)
    for photo in open_labelled(task, shared_data / "detect-coco", NAMES, photos):
        outputs, fit = network(photo.path)
        found = decode_boxes(task, outputs, fit)
        assert len(found.boxes) <= 100
        for metric in metrics:
            metric.add(*found, photo.boxes_in(fit.photo[1], fit.photo[0]), photo.labels)
    assert [metric.value() for metric in metrics] == pytest.approx(expected, abs=0.002)


def test_segmentation(shared_data: Path) -> None:
    pytest.importorskip("onnxruntime")
    network = OnnxNetwork(shared_data / "task-networks" / "espnet_camvid.onnx", ESPNET_INPUT)
    metric = SegmentationMetric(12, ESPNET.void)
    for photo in open_labelled(ESPNET, shared_data / "segment-camvid" / "test", NAMES, 3):
        outputs, fit = network(photo.path)
        labels = decode_map(ESPNET, outputs[ESPNET.output], fit)
        # The output has the photo's size: nothing is interpolated.
        assert np.array_equal(labels, outputs[ESPNET.output].argmax(axis=0))
        metric.add(labels, photo.read_mask(labels.shape))
    # Of 59 photos: 0.5659.
    assert metric.value() == pytest.approx(0.6015, abs=0.002)


def test_denoising(shared_data: Path) -> None:
    torch = pytest.importorskip("torch")
    network = dncnn(shared_data / "task-networks" / "dncnn_25.pth")
    metric, noisy = RestorationMetric(), RestorationMetric()
    for number, photo in enumerate(open_labelled(DNCNN, shared_data / "denoise-bsd68", (), 1)):
        clean = gray(photo.path)[:96, :128, None]
        given = (clean + np.random.default_rng(number).normal(0, 25 / 255, clean.shape)).astype(np.float32)
        with torch.no_grad():
            output = network(torch.from_numpy(given[None, ..., 0][None])).numpy()[0]
        metric.add(decode_image(DNCNN, output, given), clean)
        noisy.add(given, clean)
    # A part of one photo.
    assert noisy.value() == pytest.approx(20.2, abs=0.2)
    assert metric.value() == pytest.approx(26.92, abs=0.02)
