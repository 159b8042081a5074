"""The metrics against pycocotools and written-out values, and their intervals."""

from __future__ import annotations

import contextlib
import io
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nybble.tasks.metrics import (
    DetectionMetric,
    RestorationMetric,
    SegmentationMetric,
    TextMetric,
    paired_difference,
    psnr,
    value_with_interval,
)
from nybble.tasks.polygons import polygon_overlaps

Photos = list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]]


def drawn(seed: int, photos: int, classes: int) -> Photos:
    """Boxes found and labelled; many of those found lie near labelled ones, and several scores are equal."""
    random = np.random.default_rng(seed)
    made = []
    for _ in range(photos):
        true = random.integers(0, 6)
        corner = random.uniform(0, 50, (true, 2))
        boxes = np.concatenate([corner, corner + random.uniform(5, 40, (true, 2))], axis=1)
        labels = random.integers(0, classes, true)
        found = np.concatenate([boxes, boxes, random.uniform(0, 50, (3, 4))]).astype(np.float64)
        found[: 2 * true] += random.normal(0, 3, (2 * true, 4))
        found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
        kinds = np.concatenate([labels, labels, random.integers(0, classes, 3)])
        scores = random.integers(1, 20, len(found)) / 20
        made.append((found, scores, kinds, boxes, labels))
    return made


def measured(photos: Photos, threshold: float | None = None) -> DetectionMetric:
    metric = DetectionMetric(threshold)
    for photo in photos:
        metric.add(*photo)
    return metric


def coco(photos: Photos, classes: int) -> tuple[float, float]:
    """AP and AP50 of pycocotools."""
    coco_module, evaluation = pytest.importorskip("pycocotools.coco"), pytest.importorskip("pycocotools.cocoeval")
    truth, found = [], []
    for number, (boxes, scores, labels, true, kinds) in enumerate(photos):
        for box, kind in zip(true, kinds, strict=True):
            size = box[2:] - box[:2]
            entry = {"id": len(truth) + 1, "image_id": number, "category_id": int(kind), "iscrowd": 0}
            truth.append(entry | {"bbox": [*box[:2], *size], "area": float(size.prod())})
        for box, score, label in zip(boxes, scores, labels, strict=True):
            entry = {"image_id": number, "category_id": int(label), "score": float(score)}
            found.append(entry | {"bbox": [*box[:2], *(box[2:] - box[:2])]})
    with contextlib.redirect_stdout(io.StringIO()):
        data = coco_module.COCO()
        data.dataset = {
            "images": [{"id": number} for number in range(len(photos))],
            "annotations": truth,
            "categories": [{"id": label} for label in range(classes)],
            "info": {},
        }
        data.createIndex()
        run = evaluation.COCOeval(data, data.loadRes(found), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return run.stats[0], run.stats[1]


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000), photos=st.integers(1, 8), classes=st.integers(1, 4))
def test_average_precision_is_that_of_coco(seed: int, photos: int, classes: int) -> None:
    given = drawn(seed, photos, classes)
    if not any(len(photo[4]) for photo in given):
        assert math.isnan(measured(given).value())
        return
    expected = coco(given, classes)
    assert measured(given).value() == pytest.approx(expected[0], abs=1e-9)
    assert measured(given, 0.5).value() == pytest.approx(expected[1], abs=1e-9)


def test_weights_are_repeated_photos() -> None:
    # Scores that differ: of equal ones in a photo, copies come in another order.
    random = np.random.default_rng(0)
    given = [
        (boxes, random.permutation(len(boxes)) + number / 9, *rest)
        for number, (boxes, _, *rest) in enumerate(drawn(3, 4, 3))
    ]
    weights = np.array([2, 0, 1, 1])
    repeated = [photo for photo, weight in zip(given, weights, strict=True) for _ in range(weight)]
    assert measured(given).value(weights) == pytest.approx(measured(repeated).value(), abs=1e-12)
    assert measured(given).value() == measured(given).value(np.ones(4, np.int64))
    rows = np.stack([weights, np.ones(4, np.int64), np.zeros(4, np.int64)])
    found = measured(given).values(rows)
    assert found[:2].tolist() == [measured(given).value(weights), measured(given).value()] and np.isnan(found[2])


def test_intervals_hold_the_figure_and_pairing_narrows_them() -> None:
    random = np.random.default_rng(0)
    first, second = RestorationMetric(), RestorationMetric()
    first.decibels = random.normal(28, 2, 60).tolist()
    second.decibels = (np.array(first.decibels) - 0.1 + random.normal(0, 0.05, 60)).tolist()
    one = value_with_interval(first, 300)
    assert one.low < one.value < one.high and one.value == pytest.approx(np.mean(first.decibels))
    difference = paired_difference(first, second, 300)
    assert difference.low < difference.value < difference.high < 0
    assert difference.high - difference.low < (one.high - one.low) / 10
    assert paired_difference(first, first, 50) == (0, 0, 0)
    assert one == value_with_interval(first, 300)
    with pytest.raises(ValueError, match="same photos, got 60 and 0"):
        paired_difference(first, RestorationMetric())


def test_mean_iou_by_hand() -> None:
    metric = SegmentationMetric(4, void=3)
    true = np.array([[0, 0, 1], [1, 3, 200]])
    metric.add(np.array([[0, 1, 1], [3, 0, 0]]), true)
    # Class 0: 1 of 2; class 1: one right, one that was class 0, one answered void; class 2 does not occur.
    assert metric.per_class()[:2].tolist() == [1 / 2, 1 / 3]
    assert metric.value() == pytest.approx((1 / 2 + 1 / 3) / 2)
    with pytest.raises(ValueError, match="the labels have"):
        metric.add(true, true[:1])


def test_psnr_by_hand() -> None:
    clean = np.zeros((4, 4, 1))
    assert psnr(clean + 0.1, clean) == pytest.approx(20)
    assert psnr(clean, clean) == math.inf
    with pytest.raises(ValueError, match="shape"):
        psnr(clean, clean[..., 0])


def test_text_is_matched_once() -> None:
    square = np.array([[0, 0], [10, 0], [10, 10], [0, 10]], float)
    metric = TextMetric()
    metric.add(np.stack([square, square + 1, square + 100]), np.stack([square[::-1], square + 50]))
    assert metric.value() == pytest.approx(2 * 1 / (3 + 2))
    metric.add(np.zeros((0, 4, 2)), np.zeros((0, 4, 2)))
    assert metric.value(np.array([1, 5])) == pytest.approx(2 / 5)


def test_polygons_overlap() -> None:
    square = np.array([[0, 0], [2, 0], [2, 2], [0, 2]], float)
    diamond = np.array([[1, 0], [2, 1], [1, 2], [0, 1]], float)
    assert polygon_overlaps(square[None], np.stack([square + 1, diamond, square + 2, diamond[::-1]])) == pytest.approx(
        np.array([[1 / 7, 1 / 2, 0, 1 / 2]])
    )
