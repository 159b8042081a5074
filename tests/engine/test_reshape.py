"""One network for inputs of several sizes: what changes with the size, what is kept, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nybble.engine import Engine
from nybble.engine.sizes import KEPT
from nybble.graph import (
    AvgPool2d,
    Concat,
    Conv2d,
    Detect,
    DType,
    Graph,
    GraphError,
    Input,
    Linear,
    MaxPool2d,
    Node,
    Padding,
    Pair,
    Preprocessing,
    Quantize,
    RealConcat,
    RealReshape,
    RealTranspose,
    ResizeNearest,
    Scale,
    Slice,
    Tensor,
)
from nybble.graph.resized import resized
from nybble.reference import interpret


def network(rows: int, columns: int) -> Graph:
    """A focus, a convolution, a map of half its size that is resized and joined, and a global pool."""
    random = np.random.default_rng(0)
    half = Pair(rows // 2, columns // 2)
    nodes: list[Node] = [
        Slice(
            name="even", inputs=("x",), input_type=DType.S8, start=(0, 0, 0), stop=(3, rows, columns), step=(1, 2, 2)
        ),
        Slice(name="odd", inputs=("x",), input_type=DType.S8, start=(0, 1, 1), stop=(3, rows, columns), step=(1, 2, 2)),
        Concat(name="focus", inputs=("even", "odd"), input_type=DType.S8),
        Conv2d(
            name="conv",
            inputs=("focus",),
            input_type=DType.S8,
            weight=Tensor.from_array(DType.S8, random.integers(-128, 127, (5, 6, 3, 3))),
            padding=Padding(1, 1, 1, 1),
        ),
        Quantize(
            name="codes",
            inputs=("conv",),
            input_type=DType.S32,
            output_type=DType.U8,
            factor=Tensor.from_array(DType.U16, random.integers(1, 30, 5)),
            shift=12,
        ),
        MaxPool2d(name="small", inputs=("codes",), input_type=DType.U8, kernel_size=Pair(2, 2), stride=Pair(2, 2)),
        ResizeNearest(name="large", inputs=("small",), input_type=DType.U8, size=half),
        Concat(name="both", inputs=("codes", "large"), input_type=DType.U8),
        AvgPool2d(name="mean", inputs=("codes",), input_type=DType.U8, kernel_size=half, stride=half),
        Conv2d(
            name="head",
            inputs=("both",),
            input_type=DType.U8,
            weight=Tensor.from_array(DType.S8, random.integers(-128, 127, (4, 10, 1, 1))),
        ),
        Scale(name="real", inputs=("head",), out_scale=Tensor.from_array(DType.F32, np.full(4, 0.5, np.float32))),
        RealReshape(name="rows", inputs=("real",), shape=(4, half.rows * half.columns)),
        RealTranspose(name="turned", inputs=("rows",), order=(1, 0)),
        RealConcat(name="twice", inputs=("turned", "turned"), axis=0),
    ]
    entry = Input(name="x", dtype=DType.S8, shape=(3, rows, columns))
    preprocessing = Preprocessing(crop=(rows, columns), fit="stretch")
    return Graph([entry], nodes, ["twice", "mean"], preprocessing=preprocessing)


@given(st.integers(2, 6), st.integers(1, 6), st.integers(1, 6), st.integers(1, 6))
def test_a_network_of_another_size_is_the_one_made_for_it(
    rows: int, columns: int, to_rows: int, to_columns: int
) -> None:
    made = resized(network(4 * rows, 4 * columns), 4 * to_rows, 4 * to_columns)
    wanted = network(4 * to_rows, 4 * to_columns)
    assert str(made) == str(wanted) and made.preprocessing == wanted.preprocessing
    photos = np.random.default_rng(1).integers(0, 256, (1, 4 * to_rows, 4 * to_columns, 3)).astype(np.uint8)
    assert made.preprocessing is not None
    codes = made.preprocessing.quantize(made.preprocessing.normalise(photos)).transpose(0, 3, 1, 2).copy()
    for name, value in interpret(wanted, codes).items():
        np.testing.assert_array_equal(interpret(made, codes)[name], value)


@pytest.mark.parametrize("count", [1, 3])
def test_an_engine_of_another_size_gives_what_the_reference_does(count: int) -> None:
    with Engine(network(8, 12), 2) as engine:
        for size in ((16, 4), (8, 12), (4, 20)):
            other = engine.reshape(*size)
            assert other.photo_shape == (*size, 3)
            photos = np.random.default_rng(2).integers(0, 256, (count, *size, 3)).astype(np.uint8)
            preprocessing = other.graph.preprocessing
            assert preprocessing is not None
            codes = preprocessing.quantize(preprocessing.normalise(photos)).transpose(0, 3, 1, 2).copy()
            expected = interpret(other.graph, codes)
            for name, value in other.run(photos).items():
                np.testing.assert_array_equal(value, expected[name])


def test_few_sizes_are_kept() -> None:
    with Engine(network(8, 8), 1) as engine:
        assert engine.reshape(8, 8) is engine
        first = engine.reshape(4, 4)
        assert engine.reshape(4, 4) is first and first.reshape(4, 4) is first
        others = [engine.reshape(4, 8 + 4 * place) for place in range(KEPT)]
        assert others[0].reshape(4, 8) is others[0], "engines of one network share what is kept"
        assert engine.reshape(4, 4) is not first
        # It is no longer kept, but works on.
        assert set(first.run(np.zeros((1, 4, 4, 3), np.uint8))) == {"twice", "mean"}
        last = engine.reshape(4, 4)
    with pytest.raises(ValueError, match="closed"):
        last.run(np.zeros((1, 4, 4, 3), np.uint8))
    with pytest.raises(ValueError, match="closed"):
        engine.reshape(4, 4)


def test_weights_are_shared_by_sizes() -> None:
    from nybble._native import kept_weight_bytes

    with Engine(network(8, 8), 1) as engine:
        before = kept_weight_bytes()
        engine.reshape(12, 8)
        assert kept_weight_bytes() == before


def with_node(node: Node) -> Graph:
    entry = Input(name="x", dtype=DType.S8, shape=(3, 8, 8))
    return Graph([entry], [node], [node.name])


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (
            Linear(
                name="fc",
                inputs=("x",),
                input_type=DType.S8,
                weight=Tensor.from_array(DType.S8, np.ones((2, 192), np.int64)),
            ),
            "fc: the network cannot take 8x12 pixels: ",
        ),
        (
            Slice(name="cut", inputs=("x",), input_type=DType.S8, start=(0, 0, 1), stop=(3, 8, 7), step=(1, 1, 1)),
            "cut: .*takes 1:7:1 of 8, which does not determine what it takes of 12",
        ),
        (
            ResizeNearest(name="odd", inputs=("x",), input_type=DType.S8, size=Pair(8, 3)),
            "odd: .*resizes 8 to 3, which gives no whole number for 12",
        ),
        (
            MaxPool2d(name="pool", inputs=("x",), input_type=DType.S8, kernel_size=Pair(7, 9), stride=Pair(1, 1),
                      padding=Padding(0, 1, 0, 0)),
            None,
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_in_one_line(node: Node, message: str | None) -> None:
    graph = with_node(node)
    if message is None:
        assert resized(graph, 8, 12).values["pool"].shape == (3, 2, 5)
        return
    with pytest.raises(GraphError, match=message) as caught:
        resized(graph, 8, 12)
    assert "\n" not in str(caught.value)


def test_impossible_sizes_are_refused() -> None:
    graph = network(8, 8)
    for size in ((0, 8), (-4, 8), (70_000, 4), (65_536, 65_536), (10, 8)):
        with pytest.raises(GraphError, match="the network cannot take"):
            resized(graph, *size)
    vector = Graph([Input(name="x", dtype=DType.S8, shape=(3,))], [], ["x"])
    with pytest.raises(GraphError, match="only a network of one image"):
        resized(vector, 4, 4)


def test_parted_axes_are_refused() -> None:
    graph = network(8, 8)
    parted = RealReshape(name="parted", inputs=("turned",), shape=(4, 4, 2, 2))
    wrong = Graph(graph.inputs, [*graph.nodes, parted], ["parted"])
    with pytest.raises(GraphError, match="does not determine what"):
        resized(wrong, 12, 8)


def test_anchors_are_of_one_size() -> None:
    anchors = Tensor.from_array(DType.F32, np.ones((2, 4), np.float32))
    task = Detect(classes=1, boxes=("x",), scores=("x",), form="anchors", anchors=anchors)
    entry = Input(name="x", dtype=DType.S8, shape=(5, 8, 8))
    with pytest.raises(GraphError, match="anchors: are for an input of 8x8 only"):
        resized(Graph([entry], [], ["x"], task=task), 16, 16)


def test_a_crop_keeps_its_share_of_the_photo() -> None:
    graph = with_node(
        MaxPool2d(name="pool", inputs=("x",), input_type=DType.S8, kernel_size=Pair(2, 2), stride=Pair(2, 2))
    )
    cropped = Graph(graph.inputs, graph.nodes, graph.outputs, preprocessing=Preprocessing(resize=10, crop=(8, 8)))
    found = resized(cropped, 16, 24).preprocessing
    assert found == replace(Preprocessing(resize=30, crop=(16, 24)), input_type=DType.S8)
