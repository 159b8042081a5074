"""Heads of every form, against boxes that are computed one by one."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nybble.graph import Detect, DType, GraphError, Tensor
from nybble.images import Fit
from nybble.tasks.detect import decode_boxes

SIZE = (32, 48)
#: A photo of the size of the input.
FIT = Fit(SIZE, SIZE, 0, 0, SIZE)


def clip(box: tuple[float, float, float, float]) -> list[float]:
    return [min(max(value, 0), SIZE[1 - index % 2]) for index, value in enumerate(box)]


def centred(x: float, y: float, width: float, height: float) -> list[float]:
    return clip((x - width / 2, y - height / 2, x + width / 2, y + height / 2))


def drawn(*shape: int) -> np.ndarray:
    return np.random.default_rng(shape[0]).normal(0, 1, shape).astype(np.float32)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_cells_of_one_combined_plane() -> None:
    task = Detect(
        2,
        ("y",),
        ("y",),
        ("y",),
        box_first=1,
        score_first=5,
        strides=(8,),
        centre="tanh",
        size="sigmoid",
        unit="image",
        score_function="sigmoid",
        objectness_function="sigmoid",
        score_power=0.4,
        objectness_power=0.6,
        score_threshold=0,
    )
    y = drawn(7, 4, 6)
    found = decode_boxes(task, {"y": y}, FIT)
    expected = []
    for row in range(4):
        for column in range(6):
            o, *t, a, b = y[:, row, column].tolist()
            box = centred(
                (column + math.tanh(t[0])) * 8, (row + math.tanh(t[1])) * 8, sigmoid(t[2]) * 48, sigmoid(t[3]) * 32
            )
            expected += [(sigmoid(o) ** 0.6 * sigmoid(s) ** 0.4, label, box) for label, s in enumerate((a, b))]
    expected.sort(key=lambda entry: -entry[0])
    np.testing.assert_allclose(found.scores, [entry[0] for entry in expected], rtol=1e-5)
    assert found.labels.tolist() == [entry[1] for entry in expected]
    np.testing.assert_allclose(found.boxes, [entry[2] for entry in expected], atol=1e-3)


def test_rows_of_several_strides_are_the_planes_one_after_the_other() -> None:
    strides = (8, 16)
    planes = [drawn(7, 4, 6), drawn(7, 2, 3)]
    common = {"strides": strides, "objectness_first": 4, "score_first": 5, "score_threshold": 0.0}
    of_planes = Detect(2, ("a", "b"), ("a", "b"), ("a", "b"), **common)  # type: ignore[arg-type]
    of_rows = Detect(2, ("y",), ("y",), ("y",), layout="rows", **common)  # type: ignore[arg-type]
    rows = np.concatenate([plane.reshape(7, -1).T for plane in planes])
    first = decode_boxes(of_planes, {"a": planes[0], "b": planes[1]}, FIT)
    second = decode_boxes(of_rows, {"y": rows}, FIT)
    assert len(first.boxes) and all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    columns = Detect(2, ("y",), ("y",), ("y",), layout="columns", **common)  # type: ignore[arg-type]
    third = decode_boxes(columns, {"y": rows.T[None]}, FIT)
    assert all(np.array_equal(a, b) for a, b in zip(first, third, strict=True))
    pixels = Detect(2, ("a", "b"), ("a", "b"), ("a", "b"), layout="pixels", **common)  # type: ignore[arg-type]
    outputs = {"a": planes[0].transpose(1, 2, 0), "b": planes[1].transpose(1, 2, 0)}
    fourth = decode_boxes(pixels, outputs, FIT)
    assert all(np.array_equal(a, b) for a, b in zip(first, fourth, strict=True))


def test_separate_outputs_of_distances() -> None:
    task = Detect(
        3,
        ("box",),
        ("cls",),
        form="distances",
        strides=(8,),
        bins=4,
        size="linear",
        centre_shift=0.5,
        score_threshold=0,
    )
    boxes, scores = drawn(16, 4, 6), np.abs(drawn(3, 4, 6)) / 5
    found = decode_boxes(task, {"box": boxes, "cls": scores}, FIT)
    best = np.unravel_index(scores.argmax(), scores.shape)
    label, row, column = map(int, best)
    sides = []
    for bins in boxes[:, row, column].reshape(4, 4).tolist():
        shares = [math.exp(value) for value in bins]
        sides.append(8 * sum(place * share for place, share in enumerate(shares)) / sum(shares))
    x, y = (column + 0.5) * 8, (row + 0.5) * 8
    assert found.labels[0] == label
    np.testing.assert_allclose(
        found.boxes[0], clip((x - sides[0], y - sides[1], x + sides[2], y + sides[3])), rtol=1e-5
    )


def test_anchors_are_decoded_as_in_torchvision() -> None:
    torch = pytest.importorskip("torch")
    detection = pytest.importorskip("torchvision.models.detection._utils")
    random = np.random.default_rng(0)
    corner = random.uniform(0, 20, (40, 2))
    corners = np.concatenate([corner, corner + random.uniform(2, 20, (40, 2))], axis=1).astype(np.float32)
    anchors = np.concatenate([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], axis=1)
    deltas, scores = drawn(40, 4), drawn(40, 4)
    task = Detect(
        3,
        ("deltas",),
        ("scores",),
        layout="rows",
        form="anchors",
        anchors=Tensor.from_array(DType.F32, anchors.astype(np.float32)),
        variances=(0.1, 0.1, 0.2, 0.2),
        score_function="softmax",
        background=0,
        best_class=True,
        score_threshold=0.0,
    )
    found = decode_boxes(task, {"deltas": deltas, "scores": scores}, FIT)
    coder = detection.BoxCoder((10.0, 10.0, 5.0, 5.0))
    expected = coder.decode_single(torch.from_numpy(deltas), torch.from_numpy(corners)).numpy()
    chances = torch.softmax(torch.from_numpy(scores), 1).numpy()[:, 1:]
    order = np.argsort(-chances.max(axis=1), kind="stable")
    assert found.labels.tolist() == chances.argmax(axis=1)[order].tolist()
    np.testing.assert_allclose(found.boxes, np.clip(expected, 0, (48, 32, 48, 32))[order], atol=1e-4)


def test_several_anchors_of_a_cell() -> None:
    """Planes with the anchors one after the other in the channels are the rows of torchvision's heads."""
    anchors = Tensor.from_array(DType.F32, np.abs(drawn(48, 4)) * 10 + 1)
    common = {"form": "anchors", "anchors": anchors, "score_threshold": 0.1, "nms_threshold": 0.5}
    boxes, scores = drawn(8, 4, 6), drawn(6, 4, 6)

    def permuted(x: np.ndarray, width: int) -> np.ndarray:
        return x.reshape(2, width, 4, 6).transpose(2, 3, 0, 1).reshape(-1, width)

    planes = decode_boxes(Detect(3, ("b",), ("s",), **common), {"b": boxes, "s": scores}, FIT)  # type: ignore[arg-type]
    rows = decode_boxes(
        Detect(3, ("b",), ("s",), layout="rows", **common),  # type: ignore[arg-type]
        {"b": permuted(boxes, 4), "s": permuted(scores, 3)},
        FIT,
    )
    assert len(planes.boxes) > 3 and all(np.array_equal(a, b) for a, b in zip(planes, rows, strict=True))


@pytest.mark.parametrize(("form", "unit"), [("corners", "pixel"), ("corners", "image"), ("centres", "image")])
def test_decoded_boxes(form: str, unit: str) -> None:
    given = np.array([[4, 6, 24, 26], [10, 2, 40, 30]], np.float32)
    numbers = given if form == "corners" else np.array([[14, 16, 20, 20], [25, 16, 30, 28]], np.float32)
    if unit == "image":
        numbers = numbers / np.float32((48, 32, 48, 32))
    task = Detect(1, ("b",), ("s",), layout="rows", form=form, unit=unit)
    # Of a photo of twice the size.
    fit = Fit((64, 96), SIZE, 0, 0, SIZE)
    found = decode_boxes(task, {"b": numbers, "s": np.array([[0.5], [0.75]], np.float32)}, fit)
    np.testing.assert_allclose(found.boxes, given[::-1] * 2, rtol=1e-6)
    assert found.scores.tolist() == [0.75, 0.5]
    assert len(decode_boxes(task, {"b": numbers, "s": np.zeros((2, 1), np.float32)}, fit).boxes) == 0
    assert len(decode_boxes(task, {"b": numbers, "s": np.ones((2, 1), np.float32) / 2}, fit, 0.6).boxes) == 0


@pytest.mark.parametrize(
    ("changes", "shapes", "message"),
    [
        ({}, {"b": (4, 4, 6), "s": (3, 4, 5)}, "20 scores for 24 boxes"),
        ({}, {"b": (24, 4), "s": (3, 4, 6)}, r"layout: planes does not fit the shape \(24, 4\) of output b"),
        ({}, {"b": (5, 4, 6), "s": (3, 4, 6)}, "has 5 channels, no multiple of 4"),
        ({"layout": "rows"}, {"b": (23, 4), "s": (23, 3)}, "make 24 cells, but the outputs have 23 boxes"),
        ({"scores": ("b",), "score_first": 4}, {"b": (6, 4, 6)}, "output b has 6 numbers for a box, but 7 are needed"),
        ({"strides": (8, 16)}, {"b": (4, 4, 6), "s": (3, 4, 6)}, "strides: has 2 values, but there are 1 levels"),
    ],
)
def test_outputs_that_do_not_fit(changes: dict[str, object], shapes: dict[str, tuple[int, ...]], message: str) -> None:
    task = Detect(**{"classes": 3, "boxes": ("b",), "scores": ("s",), "strides": (8,), **changes})  # type: ignore[arg-type]
    with pytest.raises(GraphError, match=message):
        decode_boxes(task, {name: drawn(*shape) for name, shape in shapes.items()}, FIT)


def test_infinity_is_refused() -> None:
    task = Detect(1, ("b",), ("s",), layout="rows", form="corners")
    with pytest.raises(GraphError, match="NaN or infinity"):
        decode_boxes(task, {"b": np.full((2, 4), np.nan, np.float32), "s": np.ones((2, 1), np.float32)}, FIT)
