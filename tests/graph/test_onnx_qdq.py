"""The QDQ form in ONNX Runtime: what it is made of, that it runs, and that it agrees with the reference."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from comparison import assert_equal
from hypothesis import given
from saturation import REASON, saturates
from test_onnx_exact import LEVELS, run

from nybble.graph import (
    AvgPool2d,
    Conv2d,
    DType,
    Graph,
    GraphError,
    Input,
    Linear,
    Node,
    Padding,
    Pair,
    Quantize,
    ReLU,
    Tensor,
)
from nybble.graph.convert import to_bits
from nybble.graph.types import ACTIVATIONS
from nybble.reference import interpret
from nybble.synthetic import bottleneck_resnet
from strategies import batches, graphs

onnx = pytest.importorskip("onnx")
from onnx import TensorProto  # noqa: E402 - needs onnx

from nybble.graph.onnx import OnnxExportError, export_onnx, from_onnx, to_onnx  # noqa: E402

RESNET = bottleneck_resnet(blocks=(1, 1), width=8, classes=10, image=16)


def _weights(model: Any) -> Counter[int]:
    return Counter(tensor.data_type for tensor in model.graph.initializer if tensor.name.endswith("/weight/stored"))


def test_types() -> None:
    made = to_onnx(RESNET)
    assert made.opset == 21
    assert _weights(made.model)[TensorProto.INT4] == 8
    assert _weights(made.model)[TensorProto.INT8] == 2
    zeros = Counter(tensor.data_type for tensor in made.model.graph.initializer if tensor.name.endswith("/zero"))
    assert zeros[TensorProto.UINT4] == sum(
        isinstance(node, Quantize) and node.output_type is DType.U4 and node.name != "quantize1" for node in RESNET
    )
    wide = to_onnx(to_bits(RESNET, 8)).model
    assert set(_weights(wide)) == {TensorProto.INT8}
    assert not {TensorProto.UINT4, TensorProto.INT4} & {tensor.data_type for tensor in wide.graph.initializer}


@pytest.mark.parametrize("level", LEVELS, ids=["as it is", "optimised"])
@pytest.mark.parametrize("bits", [4, 8])
def test_a_network_agrees_with_the_reference(bits: int, level: Any) -> None:
    if bits == 8 and level == LEVELS[1] and saturates():
        pytest.skip(REASON)
    graph = to_bits(RESNET, bits) if bits == 8 else RESNET
    images = np.random.default_rng(0).integers(-60, 60, (16, 3, 16, 16)).astype(np.int8)
    wanted = interpret(graph, images)["scale"]
    known = graph.preprocessing
    assert known is not None
    photos = images.astype(np.float32) * np.float32(known.scale_denominator / known.scale_numerator)
    (found,) = run(to_onnx(graph).model, {"input": photos}, level)
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("output", sorted(ACTIVATIONS, key=str))
def test_a_clip_before_a_rounding_that_keeps_its_numbers(output: DType, channels: int) -> None:
    """ONNX Runtime leaves the product with 1 out, and then sees a Clip before a QuantizeLinear of any type."""
    one = Tensor.from_array(DType.U32, np.full(channels, 4))
    whole = Tensor.from_array(DType.U32, np.full(channels, 1))
    graph = Graph(
        [Input(name="x", dtype=DType.S8, shape=(channels, 2, 3))],
        [
            Quantize(name="sums", inputs=("x",), input_type=DType.S8, output_type=DType.S32, factor=whole, shift=0),
            ReLU(name="relu", inputs=("sums",), input_type=DType.S32, maximum=6),
            Quantize(name="y", inputs=("relu",), input_type=DType.U31, output_type=output, factor=one, shift=2),
        ],
        ["y"],
    )
    values = np.random.default_rng(2).integers(-9, 30, (1, channels, 2, 3)).astype(np.int8)
    for level in LEVELS:
        (found,) = run(to_onnx(graph).model, {"x": values.astype(np.float32)}, level)
        np.testing.assert_array_equal(found, interpret(graph, {"x": values})["y"])
    assert_equal(from_onnx(to_onnx(graph).model).graph, graph)


@given(graph=graphs(), data=st.data())
def test_any_graph_runs(graph: Graph, data: st.DataObject) -> None:
    inputs = {entry.name: data.draw(batches(entry))[:1] for entry in graph.inputs}
    try:
        model = to_onnx(graph).model
    except OnnxExportError as error:
        assert "ceil_mode" in str(error)
        return
    wanted = interpret(graph, inputs)
    for level in LEVELS:
        found = run(model, {name: values.astype(np.float32) for name, values in inputs.items()}, level)
        for name, values in zip(graph.outputs, found, strict=True):
            dtype = graph.values[name].dtype
            if dtype in ACTIVATIONS:
                assert dtype.minimum <= values.min() <= values.max() <= dtype.maximum
                np.testing.assert_array_equal(values, np.rint(values))
            if _is_exact(graph):
                np.testing.assert_array_equal(values, wanted[name])


def _is_exact(graph: Graph) -> bool:
    """Whether all sums are exact in float32, and no layer of eight bits sums real numbers.

    The products of factors and sums must be exact in float64 where a sum is requantized to a sum.
    """
    small = all(value.magnitude < 1 << 24 for value in graph.values.values())
    wide = any(isinstance(node, Conv2d | Linear) and node.weight.dtype is DType.S8 for node in graph)
    return small and not wide


HALVES = [("s8", "u4", 3), ("s8", "s4", 4), ("u8", "u7", 1), ("s8", "s8", 2)]


@pytest.mark.parametrize(("reads", "makes", "shift"), HALVES)
def test_halves_go_away_from_zero(reads: str, makes: str, shift: int) -> None:
    source = DType(reads)
    node = Quantize(
        name="q",
        inputs=("x",),
        input_type=source,
        output_type=DType(makes),
        factor=Tensor.from_array("u16", np.array([1])),
        shift=shift,
    )
    graph = Graph([Input(name="x", dtype=source, shape=(1,))], [node], ["q"])
    values = np.arange(source.minimum, source.maximum + 1).reshape(-1, 1)
    for level in LEVELS:
        (found,) = run(to_onnx(graph).model, {"x": values.astype(np.float32)}, level)
        np.testing.assert_array_equal(found, interpret(graph, values)["q"])


def _average(**options: Any) -> Graph:
    pool: Node = AvgPool2d(
        name="pool",
        inputs=("x",),
        input_type=DType.S8,
        kernel_size=Pair(2, 2),
        stride=Pair(2, 2),
        ceil_mode=True,
        **options,
    )
    return Graph([Input(name="x", dtype=DType.S8, shape=(1, 3, 4))], [pool], ["pool"])


def test_what_onnx_cannot_say_is_refused(tmp_path: Any) -> None:
    graph = _average(padding=Padding(0, 1, 0, 1), count_include_pad=True)
    with pytest.raises(OnnxExportError, match="pool: ONNX has no average pool in ceil mode that counts its padding"):
        export_onnx(graph, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())
    values = np.arange(12).reshape(1, 1, 3, 4).astype(np.int8)
    (found,) = run(to_onnx(graph, "exact").model, {"x": values}, LEVELS[0])
    np.testing.assert_array_equal(found, interpret(graph, values)["pool"])
    with pytest.raises(ValueError, match="not one of qdq, exact, float"):
        to_onnx(graph, "int2")  # type: ignore[arg-type]
    with pytest.raises(GraphError, match="pool"):
        to_onnx(graph, "float")


@pytest.mark.parametrize("level", LEVELS, ids=["as it is", "optimised"])
@pytest.mark.parametrize("options", [{}, {"padding": Padding(0, 1, 0, 1), "count_include_pad": False}])
def test_averages_in_ceil_mode(options: dict[str, Any], level: Any) -> None:
    graph = _average(**options)
    values = np.random.default_rng(0).integers(-128, 128, (64, 1, 3, 4)).astype(np.int8)
    wanted = interpret(graph, values)["pool"]
    (found,) = run(to_onnx(graph).model, {"x": values.astype(np.float32)}, level)
    np.testing.assert_array_equal(found, wanted)
    again = from_onnx(to_onnx(graph).model).graph
    np.testing.assert_array_equal(interpret(again, values)["pool"], wanted)


def test_nothing_else_needs_onnx() -> None:
    code = "import sys, nybble, nybble.graph, nybble.cli; sys.exit('onnx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
