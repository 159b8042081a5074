"""Exporting and importing again: the same graph, or one with the same results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from comparison import assert_equal
from hypothesis import given

from nybble.graph import (
    Add,
    AvgPool2d,
    Conv2d,
    DType,
    Graph,
    Input,
    Linear,
    Mul,
    Node,
    Padding,
    Pair,
    Quantize,
    ReLU,
    Scale,
    Tensor,
    read_graph,
)
from nybble.graph.convert import to_bits
from nybble.reference import interpret
from nybble.synthetic import bottleneck_resnet
from strategies import batches, graphs

pytest.importorskip("onnx")
from nybble.graph.onnx import OnnxExportError, from_onnx, to_onnx


@given(graph=graphs(), data=st.data())
def test_results_are_the_same(graph: Graph, data: st.DataObject) -> None:
    inputs = {entry.name: data.draw(batches(entry))[:1] for entry in graph.inputs}
    try:
        model = to_onnx(graph).model
    except OnnxExportError as error:
        assert "ceil_mode" in str(error)
        return
    again = from_onnx(model).graph
    wanted = interpret(graph, inputs)
    found = interpret(again, inputs)
    for left, right in zip(graph.outputs, again.outputs, strict=True):
        np.testing.assert_array_equal(found[right], wanted[left], err_msg=left)


def _lite(seed: int = 0) -> Graph:
    """What EfficientNet-Lite0 has: ReLU6, depthwise with one-sided padding, linear bottlenecks, an add without ReLU."""
    rng = np.random.default_rng(seed)
    nodes: list[Node] = []

    def conv(name: str, source: str, reads: str, shape: tuple[int, ...], **options: Any) -> str:
        kind = "s8" if reads in ("s8", "u7") else "s4"
        limit = 40 if kind == "s8" else 7
        bias = Tensor.from_array("s32", rng.integers(-200, 200, shape[0]))
        weight = Tensor.from_array(kind, rng.integers(-limit, limit + 1, shape))
        nodes.append(Conv2d(name=name, inputs=(source,), input_type=DType(reads), weight=weight, bias=bias, **options))
        return name

    def quantize(name: str, source: str, reads: str, makes: str, around: int, shift: int = 16) -> str:
        factor = Tensor.from_array("u16", rng.integers(around, 2 * around, 8))
        nodes.append(
            Quantize(
                name=name,
                inputs=(source,),
                input_type=DType(reads),
                output_type=DType(makes),
                factor=factor,
                shift=shift,
            )
        )
        return name

    def relu(name: str, source: str, maximum: int) -> str:
        nodes.append(ReLU(name=name, inputs=(source,), maximum=maximum))
        return name

    conv("stem", "image", "s8", (8, 3, 3, 3), stride=Pair(2, 2), padding=Padding(0, 0, 1, 1))
    quantize("stem_q", relu("stem_relu", "stem", 60000), "u31", "u7", 300)
    conv("depth", "stem_q", "u7", (8, 1, 5, 5), groups=8, stride=Pair(2, 2), padding=Padding(1, 1, 2, 2))
    quantize("depth_q", relu("depth_relu", "depth", 50000), "u31", "u4", 60)
    conv("project", "depth_q", "u4", (8, 8, 1, 1))
    quantize("project_q", "project", "s32", "s4", 3000)
    conv("expand", "project_q", "s4", (8, 8, 1, 1))
    quantize("expand_q", relu("expand_relu", "expand", 300), "u31", "u4", 4000)
    conv("second", "expand_q", "u4", (8, 8, 1, 1))
    quantize("shortcut", "project_q", "s4", "s32", 9000, 9)
    nodes.append(Add(name="add", inputs=("second", "shortcut")))
    quantize("add_q", "add", "s32", "s8", 20000)
    nodes.append(
        AvgPool2d(name="mean", inputs=("add_q",), input_type=DType.S8, kernel_size=Pair(4, 4), stride=Pair(4, 4))
    )
    weight, scale = rng.integers(-99, 100, (5, 8)), rng.uniform(10, 90, 5).astype(np.float32)
    nodes.append(Linear(name="fc", inputs=("mean",), input_type=DType.S8, weight=Tensor.from_array("s8", weight)))
    nodes.append(Scale(name="logits", inputs=("fc",), out_scale=Tensor.from_array("f32", scale)))
    return Graph([Input(name="image", dtype=DType.S8, shape=(3, 16, 16))], nodes, ["logits"])


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("network", ["resnet", "lite"])
def test_a_network_comes_back_node_for_node(network: str, bits: int) -> None:
    graph = _lite() if network == "lite" else bottleneck_resnet(blocks=(2, 1), width=8, classes=5, image=16)
    if bits == 8:
        graph = to_bits(graph, 8)
    model = to_onnx(graph).model
    made = from_onnx(model)
    assert_equal(made.graph, graph)
    assert made.largest is None or made.largest.error < 0.1
    del model.metadata_props[:]
    bare = from_onnx(model).graph
    # A maximum above what the type clips is gone, and with it that ReLU's name.
    assert [node.op for node in bare] == [node.op for node in graph]
    entry = graph.inputs[0]
    images = np.random.default_rng(1).integers(-100, 100, (4, *entry.shape))
    left, right = (interpret(each, images)[each.outputs[0]] for each in (graph, bare))
    # Other shifts than the graph's, and factors to float32's precision.
    np.testing.assert_allclose(left, right, atol=np.abs(left).max() / 20)


@pytest.mark.data
@pytest.mark.parametrize("bits", [4, 8])
def test_the_published_network_comes_back_node_for_node(shared_data: Path, bits: int) -> None:
    graph = read_graph(shared_data / "nvidia-resnet50-int4")
    if bits == 8:
        graph = to_bits(graph, 8)
    assert_equal(from_onnx(to_onnx(graph).model).graph, graph)


@pytest.mark.parametrize("ends", ["alone", "quantized", "both"])
@pytest.mark.parametrize("dtype", [DType.U4, DType.S4, DType.U8, DType.S8])
def test_a_square_is_a_product_again(dtype: DType, ends: str) -> None:
    """Its factors are one activation, so that the ONNX file could also mean a table."""
    factor = Tensor.from_array("u16", np.full(2, 40000))
    nodes: list[Node] = [
        Mul(name="square", inputs=("x", "x")),
        Quantize(name="codes", inputs=("square",), input_type=DType.S32, output_type=DType.U7, factor=factor, shift=20),
    ]
    outputs = {"alone": ["square"], "quantized": ["codes"], "both": ["square", "codes"]}[ends]
    graph = Graph([Input(name="x", dtype=dtype, shape=(2, 1, 3))], nodes[: 1 if ends == "alone" else 2], outputs)
    again = from_onnx(to_onnx(graph).model).graph
    assert [type(node) for node in again] == [type(node) for node in graph]
    codes = np.arange(dtype.minimum, dtype.maximum + 1).repeat(6).reshape(-1, 2, 1, 3)
    wanted, found = (interpret(entry, {"x": codes}) for entry in (graph, again))
    for left, right in zip(graph.outputs, again.outputs, strict=True):
        np.testing.assert_array_equal(found[right], wanted[left])
