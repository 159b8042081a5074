"""The comparison of an ONNX file in ONNX Runtime with the engine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nybble.graph import read_graph
from nybble.images import LabelledFolder, batches
from nybble.models import SHIPPED, bundled
from nybble.synthetic import bottleneck_resnet

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from nybble.bench.agreement import compare, measure  # noqa: E402 - needs ONNX Runtime
from nybble.graph.onnx import to_onnx  # noqa: E402 - needs onnx
from nybble.graph.onnx.float_form import photo_unit  # noqa: E402 - needs onnx

GRAPH = bottleneck_resnet(blocks=(1,), width=8, classes=10, image=16)
IMAGES = np.random.default_rng(0).integers(-60, 60, (6, 3, 16, 16)).astype(np.int8)


def test_an_export_and_one_that_was_changed() -> None:
    model = to_onnx(GRAPH).model
    feed = IMAGES.astype(np.float32) * np.float32(photo_unit(GRAPH))
    for found in measure(GRAPH, model, IMAGES, feed):
        assert (found.inputs, found.same_class, found.equal_logits, found.largest_difference) == (6, 6, 6, 0.0)
    scale = next(entry for entry in model.graph.initializer if entry.name == "scale/scale")
    scale.CopyFrom(onnx.numpy_helper.from_array(-onnx.numpy_helper.to_array(scale), scale.name))
    for found in measure(GRAPH, model, IMAGES, feed):
        assert found.same_class < 6
        assert found.equal_logits == 0
        assert found.largest_difference == 2.0


def test_a_file_with_a_fixed_batch() -> None:
    model = to_onnx(GRAPH, "exact").model
    for entry in (*model.graph.input, *model.graph.output):
        entry.type.tensor_type.shape.dim[0].dim_value = 4
    optimised, plain = measure(GRAPH, model, IMAGES, IMAGES)
    assert optimised.equal_logits == plain.equal_logits == 6


def test_what_is_counted() -> None:
    wanted = np.array([[1, 2, 0], [3, 3, 1], [5, 1, 0], [0, 0, 4]], np.float32)
    found = np.array([[1, 2, 0], [3, 4, 1], [5, 1, 0], [6, 0, 4]], np.float32)
    result = compare(wanted, found, True)
    assert (result.inputs, result.same_class, result.ties, result.equal_logits) == (4, 2, 1, 2)
    assert result.largest_difference == pytest.approx(6 / 5)
    assert "same class for 2 of 4 inputs (1 tie), equal logits for 2" in str(result)


@pytest.mark.data
def test_the_bundled_model_in_its_default_form(shared_data: Path) -> None:
    """Every logit of 25 photos; all 500 are in docs/onnx.md."""
    path = bundled(SHIPPED)
    assert path is not None
    graph = read_graph(path)
    assert graph.preprocessing is not None
    photos = LabelledFolder(shared_data / "photos-500")[::20]
    samples = np.concatenate([found for found, _ in batches(photos, graph.preprocessing)])
    normalised = np.ascontiguousarray(graph.preprocessing.normalise(samples).transpose(0, 3, 1, 2))
    integers = graph.preprocessing.quantize(normalised)
    for found in measure(graph, to_onnx(graph).model, integers, normalised, threads=2):
        assert found.same_class >= 0.99 * found.inputs, str(found)
