"""Overlap and suppression against torchvision and ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nybble.tasks.boxes import overlaps, suppress


def drawn(seed: int, count: int, extent: int = 40) -> np.ndarray:
    """Boxes at multiples of a half, so that many overlaps are exact and some are at a threshold."""
    random = np.random.default_rng(seed)
    corner = random.integers(0, 2 * extent, (count, 2)) / 2
    size = random.integers(0, extent, (count, 2)) / 2
    return np.concatenate([corner, corner + size], axis=1).astype(np.float32)


@given(seed=st.integers(0, 1000), count=st.integers(0, 40))
def test_overlaps_are_those_of_torchvision(seed: int, count: int) -> None:
    torch, torchvision = pytest.importorskip("torch"), pytest.importorskip("torchvision")
    boxes = drawn(seed, count)
    boxes[:, 2:] += 0.5  # torchvision divides by zero.
    expected = torchvision.ops.box_iou(torch.from_numpy(boxes), torch.from_numpy(boxes[::-1].copy()))
    assert np.array_equal(overlaps(boxes, boxes[::-1]), expected.numpy())


@given(
    seed=st.integers(0, 1000),
    count=st.integers(0, 60),
    classes=st.integers(1, 4),
    threshold=st.sampled_from([0.0, 0.25, 0.45, 0.5, 1.0]),
)
def test_suppression_is_that_of_torchvision(seed: int, count: int, classes: int, threshold: float) -> None:
    torch, torchvision = pytest.importorskip("torch"), pytest.importorskip("torchvision")
    random = np.random.default_rng(seed)
    boxes, labels = drawn(seed, count), random.integers(0, classes, count)
    boxes[:, 2:] += 0.5
    scores = random.permutation(count).astype(np.float32)
    expected = []
    for label in range(classes):
        mine = np.flatnonzero(labels == label)
        kept = torchvision.ops.nms(torch.from_numpy(boxes[mine]), torch.from_numpy(scores[mine]), threshold)
        expected += mine[kept.numpy()].tolist()
    expected.sort(key=lambda place: -scores[place])
    assert suppress(boxes, scores, labels, threshold, count + 1).tolist() == expected
    assert suppress(boxes, scores, labels, threshold, 3).tolist() == expected[:3]


def test_suppression_is_that_of_onnx() -> None:
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    boxes, random = drawn(5, 50), np.random.default_rng(5)
    boxes[:, 2:] += 0.5
    scores = random.random((3, 50)).astype(np.float32)
    # Integers as tensors; ONNX has y before x.
    constants = [
        onnx.numpy_helper.from_array(np.array([value], kind), name)
        for name, value, kind in (("most", 50, np.int64), ("iou", 0.45, np.float32), ("least", 0.2, np.float32))
    ]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("NonMaxSuppression", ["boxes", "scores", "most", "iou", "least"], ["kept"])],
        "nms",
        [
            onnx.helper.make_tensor_value_info("boxes", onnx.TensorProto.FLOAT, [1, 50, 4]),
            onnx.helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, [1, 3, 50]),
        ],
        [onnx.helper.make_tensor_value_info("kept", onnx.TensorProto.INT64, ["n", 3])],
        constants,
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (kept,) = session.run(None, {"boxes": boxes[None][..., [1, 0, 3, 2]], "scores": scores[None]})
    row, label = np.nonzero(scores.T > 0.2)
    found = suppress(boxes[row], scores.T[row, label], label, 0.45, 1000)
    assert {(int(label[place]), int(row[place])) for place in found} == {(int(c), int(b)) for _, c, b in kept}


def test_nothing_is_dropped_without_a_threshold() -> None:
    boxes = np.tile(np.array([[0, 0, 1, 1]], np.float32), (3, 1))
    assert suppress(boxes, np.array([0.1, 0.9, 0.9]), np.zeros(3), None, 2).tolist() == [1, 2]


def test_boxes_without_area_overlap_nothing() -> None:
    flat = np.array([[1, 1, 1, 1], [0, 0, 2, 2]], np.float32)
    assert overlaps(flat, flat).tolist() == [[0, 0], [0, 1]]
