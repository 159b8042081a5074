"""From the outputs of small networks to answers, through the engine's interpreter: every kind of task."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import nybble
from nybble.engine import EngineError
from nybble.engine.predicting import predict
from nybble.graph import Detect, DType, Embed, Graph, GraphError, Input, Preprocessing, Restore, Segment, Task
from nybble.images import Fit
from nybble.tasks import Detections, Embedding, Restored, Segmentation, TextBoxes, answer, decode_map, task_names
from nybble.tasks.drawing import palette_of, voc_palette

#: A network that returns its input: red, green and blue of the photo as integers of 0 to 127.
PLAIN = Preprocessing(
    crop=(24, 32), fit="stretch", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), scale_numerator=127, scale_denominator=1
)


def identity(task: Task | None, preprocessing: Preprocessing | None = PLAIN, names: list[str] | None = None) -> Graph:
    rows, columns = preprocessing.crop if preprocessing is not None else (24, 32)
    entry = Input(name="x", dtype=DType.S8, shape=(3, rows, columns))
    return Graph([entry], [], ["x"], preprocessing=preprocessing, task=task, class_names=names)


class Identity:
    """What an engine of :func:`identity` would be."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def run(self, x: np.ndarray) -> dict[str, np.ndarray]:
        assert self.graph.preprocessing is not None
        normalised = self.graph.preprocessing.normalise(x).transpose(0, 3, 1, 2) if x.dtype == np.uint8 else x
        return {"x": self.graph.preprocessing.quantize(normalised).astype(np.float32)}


def stripes(rows: int = 48, columns: int = 64) -> Image.Image:
    """Red at the left, blue at the right."""
    samples = np.zeros((rows, columns, 3), dtype=np.uint8)
    samples[:, : columns // 2, 0] = 255
    samples[:, columns // 2 :, 2] = 255
    return Image.fromarray(samples)


def test_segments_at_the_size_of_the_photo() -> None:
    names = ["red", "green", "blue"]
    found = predict(Identity(identity(Segment("x"), names=names)), stripes())
    assert isinstance(found, Segmentation) and found.labels.shape == (48, 64)
    assert (found.labels[:, :31] == 0).all() and (found.labels[:, 33:] == 2).all()
    assert {entry["name"] for entry in found.to_json()["classes"]} == {"red", "blue"}
    drawn = np.asarray(found.draw(stripes()))
    assert drawn.shape == (48, 64, 3) and not np.array_equal(drawn, np.asarray(stripes()))
    assert np.array_equal(np.asarray(found.mask()), found.labels)
    with pytest.raises(ValueError, match="the photo has"):
        found.draw(stripes(10, 10))


def test_void_is_not_drawn() -> None:
    found = predict(Identity(identity(Segment("x", void=2))), stripes())
    drawn = np.asarray(found.draw(stripes()))
    assert np.array_equal(drawn[:, 40:], np.asarray(stripes())[:, 40:])


def test_what_is_cut_off_has_no_class() -> None:
    crop = Preprocessing(
        resize=24, crop=(24, 24), mean=(0.0,) * 3, std=(1.0,) * 3, scale_numerator=127, scale_denominator=1
    )
    found = predict(Identity(identity(Segment("x"), crop)), stripes())
    assert isinstance(found, Segmentation)
    assert (found.labels[:, :8] == -1).all() and (found.labels[:, -8:] == -1).all()
    assert (found.labels[:, 8:31] == 0).all()


@pytest.mark.parametrize(("threshold", "expected"), [(0.5, [[0, 1], [1, 1]]), (None, [[0, 1], [2, 3]])])
def test_maps_of_one_channel(threshold: float | None, expected: list[list[int]]) -> None:
    fit = Fit((2, 2), (2, 2), 0, 0, (2, 2))
    output = np.array([[[0, 1], [2, 3]]], np.float32)
    assert decode_map(Segment("x", threshold=threshold), output, fit).tolist() == expected


def test_scores_are_interpolated_before_the_best_is_taken() -> None:
    torch = pytest.importorskip("torch")
    scores = np.random.default_rng(0).normal(0, 1, (5, 6, 8)).astype(np.float32)
    fit = Fit((24, 32), (24, 32), 0, 0, (24, 32))
    expected = torch.nn.functional.interpolate(torch.from_numpy(scores)[None], (24, 32), mode="bilinear")[0].argmax(0)
    assert (decode_map(Segment("x"), scores, fit) == expected.numpy()).mean() > 0.995


@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_restores_an_image_and_a_residual(order: str) -> None:
    preprocessing = Preprocessing(
        crop=(24, 32),
        fit="none",
        channel_order=order,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        scale_numerator=127,
        scale_denominator=1,
    )
    photo = np.random.default_rng(1).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    scale = 1 / 127
    image = predict(Identity(identity(Restore("x", output_scale=scale), preprocessing)), photo)
    assert isinstance(image, Restored)
    np.testing.assert_allclose(image.samples, photo / 255, atol=0.5 / 127 + 1e-6)
    assert image.image().size == (32, 24) and image.to_json() == {"size": [24, 32, 3]}
    residual = predict(Identity(identity(Restore("x", "residual", scale / 2), preprocessing)), photo)
    assert isinstance(residual, Restored)
    np.testing.assert_allclose(residual.samples, photo / 510, atol=0.5 / 127)
    # Samples are not clipped before the network reads them.
    samples = (photo / 255).astype(np.float32) * 1.5 - 0.25
    given = predict(Identity(identity(Restore("x", "residual", 0.0), preprocessing)), samples)
    assert isinstance(given, Restored)
    np.testing.assert_allclose(given.samples, np.clip(samples, 0, 1), rtol=1e-6)
    with pytest.raises(ValueError, match="expected float32 samples of shape"):
        predict(Identity(identity(Restore("x"))), samples[1:])
    with pytest.raises(ValueError, match=r"expected float32 samples \(rows, columns, 3\)"):
        predict(Identity(identity(Restore("x"), preprocessing)), samples[..., :1])
    # Any other size goes in tiles.
    for rows, columns in ((24, 40), (70, 81), (5, 90), (1, 1)):
        photo = np.random.default_rng(2).integers(0, 256, (rows, columns, 3), dtype=np.uint8)
        tiled = predict(Identity(identity(Restore("x", output_scale=scale, overlap=4), preprocessing)), photo)
        assert isinstance(tiled, Restored) and tiled.samples.shape == photo.shape
        np.testing.assert_allclose(tiled.samples, photo / 255, atol=0.5 / 127 + 1e-6)
    with pytest.raises(GraphError, match="overlap: tiles of 24 pixels cannot overlap by 12"):
        predict(Identity(identity(Restore("x", overlap=12), preprocessing)), np.zeros((50, 50, 3), np.uint8))


def test_embeds() -> None:
    found = predict(Identity(identity(Embed("x"))), stripes())
    other = predict(Identity(identity(Embed("x", normalise=False))), stripes())
    assert isinstance(found, Embedding) and isinstance(other, Embedding)
    assert np.linalg.norm(found.vector) == pytest.approx(1)
    assert found.similarity(other) == pytest.approx(1)
    assert found.draw(stripes()).size == (64, 48)


def test_detects() -> None:
    """Red and green of a pixel are the corners of a box, in shares; blue is its score."""
    photo = np.zeros((4, 5, 3), np.uint8)
    preprocessing = Preprocessing(
        crop=(4, 5), fit="none", mean=(0.0,) * 3, std=(1.0,) * 3, scale_numerator=127, scale_denominator=1
    )
    photo[1, 2] = (51, 102, 255)
    task = Detect(1, ("x",), ("x",), layout="rows", form="corners")
    with pytest.raises(GraphError, match="rows does not fit the shape"):
        predict(Identity(identity(task, preprocessing)), photo)
    boxes = np.array([[1, 2, 3, 4], [0, 0, 2, 2]], np.float32)
    found = Detections(boxes, np.array([0.9, 0.1], np.float32), np.array([0, 1]), ("cat", "dog"))
    assert len(found) == 2 and len(found.above(0.5)) == 1
    assert found.to_json()["boxes"][0] == {
        "box": [1, 2, 3, 4],
        "label": 0,
        "name": "cat",
        "score": pytest.approx(0.9),
    }
    assert json.dumps(found.to_json())
    before = stripes()
    assert not np.array_equal(np.asarray(found.draw(before)), np.asarray(before))
    assert np.array_equal(np.asarray(before), np.asarray(stripes()))
    assert np.array_equal(np.asarray(found.above(0.95).draw(before)), np.asarray(before))


def test_draws_boxes_on_the_smallest_photo() -> None:
    found = Detections(np.zeros((1, 4), np.float32), np.ones(1, np.float32), np.zeros(1, np.int64), ("a long name",))
    assert found.draw(np.zeros((1, 1, 3), np.uint8)).size == (1, 1)


def test_text_boxes_draw() -> None:
    polygons = np.array([[[1, 1], [20, 1], [20, 9], [1, 9]]], np.float32)
    found = TextBoxes(polygons, np.array([0.7], np.float32))
    assert len(found) == 1 and found.to_json()["texts"][0]["corners"][2] == [20, 9]
    assert not np.array_equal(np.asarray(found.draw(stripes())), np.asarray(stripes()))


def test_without_a_task_or_preprocessing() -> None:
    with pytest.raises(GraphError, match=r"has no file `task`, which says what its outputs mean \(docs/tasks.md\)"):
        predict(Identity(identity(None)), stripes())
    with pytest.raises(EngineError, match="no file `preprocessing`"):
        predict(Identity(identity(Embed("x"), None)), stripes())


def test_names() -> None:
    assert task_names(identity(Segment("x"))) == ("class 0", "class 1", "class 2")
    assert task_names(identity(Segment("x"), names=["a", "b", "c"])) == ("a", "b", "c")
    assert task_names(identity(Restore("x"))) == ()


def test_palettes() -> None:
    assert voc_palette(4).tolist() == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]
    assert palette_of(["010203"], 2).tolist() == [[1, 2, 3], [128, 0, 0]]


def test_answers_of_a_classifier() -> None:
    entry = Input(name="x", dtype=DType.S8, shape=(3, 1, 1))
    graph = Graph([entry], [], ["x"], class_names=["a", "b", "c"])
    size = (1, 1)
    outputs = {"x": np.array([[[0.0]], [[2.0]], [[1.0]]], np.float32)}
    found = answer(graph, outputs, Fit(size, size, 0, 0, size), np.zeros((1, 1, 3), np.uint8), top=2)
    assert [entry["name"] for entry in found.to_json()["classes"]] == ["b", "c"]
    assert found.draw(stripes()).size == (64, 48)


def test_the_module_offers_them(tmp_path: Path) -> None:
    nybble.write_graph(identity(Segment("x", palette=("ff0000",))), tmp_path)
    assert nybble.read_graph(tmp_path).task == Segment("x", palette=("ff0000",))
