"""The exact ONNX form, run by ONNX Runtime with and without graph optimisations, against the reference."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from nybble.graph import (
    Add,
    AvgPool2d,
    Conv2d,
    DType,
    Graph,
    Input,
    Linear,
    Node,
    Padding,
    Pair,
    Quantize,
    ReLU,
    Scale,
    Tensor,
)
from nybble.graph.types import Array
from nybble.reference import interpret
from strategies import batches, graphs

pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
from nybble.graph.onnx import to_onnx  # noqa: E402 - needs onnx

LEVELS = (
    onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
    onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
)


def run(model: Any, inputs: dict[str, Array], level: Any) -> list[Array]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found: list[Array] = session.run(None, inputs)
    return found


@given(graph=graphs(), data=st.data())
def test_every_value_equals_the_reference(graph: Graph, data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 3))
    inputs = {entry.name: data.draw(batches(entry))[:1].repeat(size, axis=0) for entry in graph.inputs}
    wanted = interpret(graph, inputs)
    model = to_onnx(graph, "exact").model
    for level in LEVELS:
        for name, found in zip(graph.outputs, run(model, inputs, level), strict=True):
            assert found.dtype == wanted[name].dtype
            np.testing.assert_array_equal(found, wanted[name], err_msg=name)


def test_what_float32_cannot_hold_is_named_and_exact() -> None:
    """Sums past 2**24, factors past it, shifts past what output bits allow, and an average of negative values."""
    rng = np.random.default_rng(0)
    weight = rng.integers(-128, 128, (3, 4096))
    weight[0] = 127
    nodes: list[Node] = [
        AvgPool2d(
            name="mean",
            inputs=("image",),
            input_type=DType.S8,
            kernel_size=Pair(3, 2),
            stride=Pair(2, 1),
            padding=Padding(1, 0, 2, 1),
            ceil_mode=True,
            count_include_pad=False,
        ),
        Linear(name="fc", inputs=("image",), input_type=DType.S8, weight=Tensor.from_array("s8", weight)),
        _quantize("large", "fc", DType.S32, DType.S8, [3, 2000, 40000], 22),
        _quantize("factors", "fc", DType.S32, DType.U8, [1 << 25, 3, 70000], 30),
        _quantize("sums", "large", DType.S8, DType.S32, [(1 << 24) - 1, 3, 70000], 0),
        Add(name="add", inputs=("fc", "fc")),
        ReLU(name="relu", inputs=("add",), maximum=40_000_000),
        Scale(name="scale", inputs=("relu",), out_scale=Tensor.from_array("f32", np.array([3.0, -7.0, 0.3]))),
    ]
    graph = Graph(
        [Input(name="image", dtype=DType.S8, shape=(4, 32, 32))],
        nodes,
        ["scale", "mean", "large", "factors", "sums", "add"],
    )
    images = rng.integers(-128, 128, (3, 4, 32, 32)).astype(np.int8)
    images[1], images[2] = 127, -128
    made = to_onnx(graph, "exact")
    assert set(made.wide) == {"fc", "large", "factors", "sums"}
    assert "added as int32" in made.wide["fc"]
    wanted = interpret(graph, images)
    for level in LEVELS:
        for name, found in zip(graph.outputs, run(made.model, {"image": images}, level), strict=True):
            np.testing.assert_array_equal(found, wanted[name], err_msg=name)


def _quantize(name: str, source: str, reads: DType, makes: DType, factor: list[int], shift: int) -> Quantize:
    held = Tensor.from_array("u32", np.array(factor))
    return Quantize(name=name, inputs=(source,), input_type=reads, output_type=makes, factor=held, shift=shift)


BOUNDS = [(DType.U4, 20), (DType.U7, 17), (DType.U8, 16), (DType.S8, 17), (DType.S4, 21)]


@pytest.mark.parametrize(("makes", "shift"), BOUNDS)
def test_float32_requantizes_up_to_its_bound(makes: DType, shift: int) -> None:
    """Any sum of two codes, 127 times one and the other, at the largest shift that takes float32."""
    weight = Tensor.from_array("s8", np.array([127, 1]).reshape(1, 2, 1, 1))
    nodes: list[Node] = [
        Conv2d(name="conv", inputs=("x",), input_type=DType.S8, weight=weight),
        _quantize("q", "conv", DType.S32, makes, [65521], shift),
    ]
    graph = Graph([Input(name="x", dtype=DType.S8, shape=(2, 256, 256))], nodes, ["q"])
    made = to_onnx(graph, "exact")
    assert not made.wide
    codes = np.stack(np.meshgrid(np.arange(-128, 128), np.arange(-128, 128)))[None].astype(np.int8)
    for level in LEVELS:
        (found,) = run(made.model, {"x": codes}, level)
        np.testing.assert_array_equal(found, interpret(graph, codes)["q"])
