"""The float export against the integer interpreter, on graphs where both can be compared number by number."""

from __future__ import annotations

import numpy as np
import pytest

from nybble.graph import (
    Add,
    AvgPool2d,
    Concat,
    Conv2d,
    DType,
    Graph,
    Input,
    Linear,
    MaxPool2d,
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

pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
from nybble.graph.onnx import float_form  # noqa: E402 - needs onnx

CHANNELS = 4


def _quantize(name: str, source: str, types: str, factor: list[int], shift: int) -> Quantize:
    kind, result = types.split()
    return Quantize(
        name=name,
        inputs=(source,),
        input_type=DType(kind),
        output_type=DType(result),
        factor=Tensor.from_array("u16", np.array(factor)),
        shift=shift,
    )


def _conv(
    rng: np.random.Generator, name: str, source: str, kind: str, size: int, weight: int, groups: int = 1
) -> Conv2d:
    shape = (CHANNELS, CHANNELS // groups, size, size)
    return Conv2d(
        name=name,
        inputs=(source,),
        input_type=DType(kind),
        weight=Tensor.from_array("s4", rng.integers(-weight, weight + 1, shape)),
        bias=Tensor.from_array("s16", rng.integers(-9, 10, CHANNELS)),
        padding=Padding(*[size // 2] * 4),
        groups=groups,
    )


def _bottlenecks(rng: np.random.Generator, unit: int) -> Graph:
    """A projected and an identity shortcut; with ``unit`` = 1 every requantization multiplies by an integer."""
    nodes: list[Node] = [
        _conv(rng, "conv1", "image", "s8", 3, 1),
        ReLU(name="relu1", inputs=("conv1",)),
        _quantize("q1", "relu1", "u31 u4", [unit * 2, unit, unit * 3, unit], 4),
        MaxPool2d(name="pool", inputs=("q1",), input_type=DType.U4, kernel_size=Pair(2, 2), stride=Pair(1, 1)),
        _conv(rng, "a_conv", "pool", "u4", 3, 1, groups=2),
        _conv(rng, "a_project", "pool", "u4", 1, 2),
        _quantize("a_small", "a_project", "s32 s8", [unit, unit * 2, unit, unit * 5], 4),
        _quantize("a_large", "a_small", "s8 s32", [3, 1, 0, 2], 0),
        Add(name="a_add", inputs=("a_conv", "a_large")),
        ReLU(name="a_relu", inputs=("a_add",)),
        _quantize("a_q", "a_relu", "u31 u4", [unit, unit, unit, unit * 2], 4),
        _conv(rng, "b_conv", "a_q", "u4", 1, 2),
        _quantize("b_kept", "a_q", "u4 u31", [2, 4, 2, 6], 1),
        Add(name="b_add", inputs=("b_conv", "b_kept")),
        ReLU(name="b_relu", inputs=("b_add",), maximum=90),
        _quantize("b_q", "b_relu", "u31 u7", [unit * 2, unit, unit, unit * 2], 4),
        AvgPool2d(name="average", inputs=("b_q",), input_type=DType.U7, kernel_size=Pair(5, 5), stride=Pair(1, 1)),
        Linear(
            name="fc",
            inputs=("average",),
            input_type=DType.U7,
            weight=Tensor.from_array("s8", rng.integers(-99, 100, (3, CHANNELS))),
            bias=Tensor.from_array("s32", rng.integers(-999, 1000, 3)),
        ),
        Scale(name="scale", inputs=("fc",), out_scale=Tensor.from_array("f32", np.array([100.0, 50.0, 70.0]))),
    ]
    return Graph([Input(name="image", dtype=DType.S8, shape=(CHANNELS, 6, 6))], nodes, ["b_q", "scale"])


def _run(graph: Graph, image: Array, unit: float = 0.25) -> dict[str, Array]:
    """The float model's outputs, in integer steps."""
    model = float_form.float_model(graph, input_unit=unit)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(None, {"image": image.astype(np.float32) * np.float32(unit)})
    sizes = float_form.units(graph, input_unit=unit)
    return {
        name: value / sizes[name].reshape(1, -1, *[1] * (value.ndim - 2))
        for name, value in zip(graph.outputs, found, strict=True)
    }


@pytest.mark.parametrize("seed", range(5))
def test_without_rounding_the_exact_form_equals_the_interpreter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = _bottlenecks(rng, unit=16)
    image = rng.integers(-2, 3, (3, CHANNELS, 6, 6)).astype(np.int8)
    wanted = interpret(graph, image)
    found = _run(graph, image)
    assert len(np.unique(wanted["b_q"])) > 2
    np.testing.assert_allclose(found["b_q"], wanted["b_q"], atol=1e-3)
    # The average pool is the one place that still rounds, by half a step at most.
    weights = np.abs(graph["fc"].weight.numpy().astype(np.float64)).sum(axis=1)  # type: ignore[attr-defined]
    scales = graph["scale"].out_scale.numpy()  # type: ignore[attr-defined]
    assert np.all(np.abs(found["scale"] - wanted["scale"]) <= weights / 2 / scales + 1e-3)


def test_sums_over_an_image_are_an_average() -> None:
    rng = np.random.default_rng(4)
    ones = Tensor.from_array("s4", np.ones((CHANNELS, 1, 5, 6), np.int8))
    nodes: list[Node] = [
        _conv(rng, "a", "image", "s8", 3, 1),
        _quantize("a_q", "a", "s32 s4", [16, 32, 16, 48], 4),
        Conv2d(name="sum", inputs=("a_q",), input_type=DType.S4, weight=ones, groups=CHANNELS),
        Scale(name="scale", inputs=("sum",), out_scale=Tensor.from_array("f32", np.full(CHANNELS, 30.0))),
    ]
    graph = Graph([Input(name="image", dtype=DType.S8, shape=(CHANNELS, 5, 6))], nodes, ["sum", "scale"])
    image = rng.integers(-1, 2, (2, CHANNELS, 5, 6)).astype(np.int8)
    wanted = interpret(graph, image)
    for name, value in _run(graph, image).items():
        np.testing.assert_allclose(value, wanted[name], atol=1e-3)
    plain = Graph(graph.inputs, nodes, ["scale"])
    operators = [node.op_type for node in float_form.float_model(plain, plain=True).graph.node]
    assert operators == ["Conv", "Clip", "GlobalAveragePool", "Identity"]


def test_joined_channels_keep_their_units() -> None:
    """The branches have units of their own, one of them a shortcut's."""
    rng = np.random.default_rng(3)
    nodes: list[Node] = [
        _conv(rng, "a", "image", "s8", 3, 1),
        _quantize("a_q", "a", "s32 s4", [16, 32, 16, 48], 4),
        _conv(rng, "b", "a_q", "s4", 1, 1),
        _quantize("a_kept", "a_q", "s4 s32", [2, 4, 2, 6], 1),
        Add(name="b_add", inputs=("b", "a_kept")),
        _quantize("b_q", "b_add", "s32 s4", [16, 16, 48, 16], 4),
        Concat(name="joined", inputs=("b_q", "a_q"), input_type=DType.S4),
        Conv2d(
            name="c",
            inputs=("joined",),
            input_type=DType.S4,
            weight=Tensor.from_array("s4", rng.integers(-7, 8, (3, 2 * CHANNELS, 1, 1))),
        ),
        Scale(name="scale", inputs=("c",), out_scale=Tensor.from_array("f32", np.array([4.0, 1.0, 9.0]))),
    ]
    graph = Graph([Input(name="image", dtype=DType.S8, shape=(CHANNELS, 5, 5))], nodes, ["joined", "scale"])
    image = rng.integers(-1, 2, (2, CHANNELS, 5, 5)).astype(np.int8)
    wanted = interpret(graph, image)
    assert len(np.unique(wanted["joined"])) > 4
    for name, value in _run(graph, image).items():
        np.testing.assert_allclose(value, wanted[name], atol=1e-3)


@pytest.mark.parametrize(("types", "step"), [("u31 u4", 3), ("u31 u7", 29), ("s32 s4", 3), ("s32 s8", 31)])
def test_rounding_is_all_that_one_layer_loses(types: str, step: int) -> None:
    rng = np.random.default_rng(step)
    source = "relu" if types.startswith("u31") else "conv"
    nodes: list[Node] = [_conv(rng, "conv", "image", "s8", 3, 7)]
    if source == "relu":
        nodes.append(ReLU(name="relu", inputs=("conv",)))
    nodes.append(_quantize("q", source, types, [step, step + 1, 2 * step, 1], 8))
    graph = Graph([Input(name="image", dtype=DType.S8, shape=(CHANNELS, 5, 5))], nodes, ["q"])
    image = rng.integers(-128, 128, (2, CHANNELS, 5, 5)).astype(np.int8)
    wanted = interpret(graph, image)["q"].astype(np.float64)
    assert len(np.unique(wanted)) > 5
    assert np.max(np.abs(_run(graph, image)["q"] - wanted)) <= 0.5 + 1e-3


def test_the_plain_form_is_convolutions_clips_and_sums() -> None:
    graph = _bottlenecks(np.random.default_rng(0), unit=16)
    plain = float_form.float_model(graph, plain=True)
    assert {node.op_type for node in plain.graph.node} >= {"Conv", "Clip", "Add", "MaxPool", "Gemm"}
    assert not {"Max", "Min"} & {node.op_type for node in plain.graph.node if "a_small" in node.name}


def test_several_inputs_are_refused() -> None:
    entries = [Input(name=name, dtype=DType.S8, shape=(CHANNELS, 5, 5)) for name in ("one", "two")]
    graph = Graph(entries, [_conv(np.random.default_rng(0), "conv", "one", "s8", 1, 1)], ["conv"])
    with pytest.raises(ValueError, match="one input, not 2"):
        float_form.float_model(graph)
