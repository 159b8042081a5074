"""Table and Mul as ONNX: ONNX Runtime gives the reference's codes, with and without graph optimisations."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from comparison import assert_equal
from hypothesis import given
from test_onnx_exact import LEVELS, run

from nybble.graph import (
    AvgPool2d,
    Conv2d,
    DType,
    Graph,
    Input,
    Mul,
    Node,
    Padding,
    Pair,
    Quantize,
    Table,
    Tensor,
)
from nybble.graph.ops.table import table_entries
from nybble.graph.types import ACTIVATIONS, Array
from nybble.reference import interpret
from strategies import STYLES, values_of

pytest.importorskip("onnx")
from nybble.graph.onnx import from_onnx, to_onnx
from nybble.graph.onnx.float_form import float_model, units

TYPES = st.sampled_from(ACTIVATIONS)
SEEDS = st.integers(0, 2**32 - 1)


def table(name: str, source: str, before: DType, after: DType, style: str, seed: int) -> Table:
    entries = Tensor.from_array(DType.S16, values_of(after, (table_entries(before),), style, seed))
    return Table(name=name, inputs=(source,), input_type=before, output_type=after, table=entries, function="f")


def quantize(name: str, source: str, before: DType, after: DType, factors: list[int], shift: int) -> Quantize:
    factor = Tensor.from_array(DType.U16, np.array(factors))
    return Quantize(name=name, inputs=(source,), input_type=before, output_type=after, factor=factor, shift=shift)


@st.composite
def gated(draw: st.DrawFn) -> Graph:
    """Squeeze and excitation behind a table, in any types, with a table or none behind the product."""
    seed = draw(SEEDS)
    random = np.random.default_rng(seed)
    image, value, gate, last = (draw(TYPES) for _ in range(4))
    channels = draw(st.integers(1, 4))
    full = draw(st.booleans())
    shift = draw(st.sampled_from((0, 3, 16)))
    top = max(2, (1 << shift) * last.maximum // (value.magnitude * gate.magnitude) * 2)
    window = Pair(1, 1) if full else Pair(3, 4)
    weight = Tensor.from_array(
        draw(st.sampled_from((DType.S4, DType.S8))), random.integers(-8, 8, (channels, channels, 1, 1))
    )
    factors = random.integers(0, min(top, 65535), channels, endpoint=True).tolist()
    style = draw(st.sampled_from(STYLES))
    nodes: list[Node] = [
        table("act", "image", image, value, style, seed),
        AvgPool2d(name="mean", inputs=("act",), input_type=value, kernel_size=window, stride=window),
        Conv2d(name="conv", inputs=("mean",), input_type=value, weight=weight, padding=Padding()),
        quantize("squeezed", "conv", DType.S32, DType.S8, random.integers(1, 3000, channels).tolist(), 12),
        table("gate", "squeezed", DType.S8, gate, style, seed + 1),
        Mul(name="mul", inputs=("act", "gate")),
        quantize("product", "mul", DType.S32, last, factors, shift),
        table("last", "product", last, value, style, seed + 2),
    ]
    outputs = draw(st.sampled_from((["last"], ["product"], ["mul", "gate"], ["last", "act", "product"])))
    return Graph([Input(name="image", dtype=image, shape=(channels, 3, 4))], nodes, outputs)


def images_of(graph: Graph, seed: int) -> Array:
    return values_of(graph.inputs[0].dtype, (3, *graph.inputs[0].shape), "random", seed)


@given(graph=gated(), seed=SEEDS)
@pytest.mark.parametrize("level", LEVELS, ids=["as it is", "optimised"])
@pytest.mark.parametrize("form", ["exact", "qdq"])
def test_onnx_runtime_gives_the_codes(form: str, level: Any, graph: Graph, seed: int) -> None:
    images = images_of(graph, seed)
    wanted = interpret(graph, images)
    given_images = images if form == "exact" else images.astype(np.float32)
    for name, found in zip(graph.outputs, run(to_onnx(graph, form).model, {"image": given_images}, level), strict=True):
        np.testing.assert_array_equal(found, wanted[name], err_msg=name)


@given(graph=gated())
def test_it_comes_back_node_for_node(graph: Graph) -> None:
    assert_equal(from_onnx(to_onnx(graph).model).graph, graph)


@pytest.mark.parametrize("before", ACTIVATIONS)
@pytest.mark.parametrize("after", ACTIVATIONS)
def test_every_code_of_every_type(before: DType, after: DType) -> None:
    count = table_entries(before)
    node = table("table", "image", before, after, "random", 7)
    graph = Graph([Input(name="image", dtype=before, shape=(1, 1, count))], [node], ["table"])
    codes = np.arange(before.minimum, before.maximum + 1).astype(before.storage).reshape(1, 1, 1, count)
    expected = node.table.numpy().reshape(1, 1, 1, count)
    for form in ("exact", "qdq", "float"):
        images = codes if form == "exact" else codes.astype(np.float32)
        for level in LEVELS:
            (found,) = run(to_onnx(graph, form).model, {"image": images}, level)
            np.testing.assert_array_equal(found, expected)


@given(graph=gated(), seed=SEEDS)
def test_the_float_form_has_no_rounding_but_that_of_tables(graph: Graph, seed: int) -> None:
    """Its values in their units, one by one from those that the model itself gives."""
    graph = Graph(graph.inputs, graph.nodes, [node.name for node in graph if node.op != "Conv2d"])
    images = images_of(graph, seed)
    model, step = float_model(graph), units(graph)
    found = dict(zip(graph.outputs, run(model, {"image": images.astype(np.float32)}, LEVELS[0]), strict=True))
    found["image"] = images.astype(np.float32)

    def steps(name: str) -> Array:
        unit = step[name].reshape(-1, 1, 1)
        exact: Array = found[name].astype(np.float64) / unit
        return exact

    for node in graph:
        if isinstance(node, Table):
            codes = np.clip(
                np.rint(steps(node.inputs[0]).astype(np.float32)), node.input_type.minimum, node.input_type.maximum
            )
            entries = node.table.numpy()[codes.astype(int) - node.input_type.minimum]
            # A float beside a half may be rounded either way.
            is_clear = np.abs(np.abs(steps(node.inputs[0]) % 1) - 0.5) > 1e-3
            np.testing.assert_array_equal(steps(node.name)[is_clear], entries[is_clear])
        elif isinstance(node, Mul):
            expected = steps(node.inputs[0]) * steps(node.inputs[1])
            np.testing.assert_allclose(steps(node.name), expected, rtol=1e-5, atol=1e-4)
