"""Convolutions of the phases of an image: the same sums as convolutions of the image itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nybble.engine import Engine, available_isas
from nybble.graph import Concat, Conv2d, DType, Graph, Input, MaxPool2d, Node, Padding, Pair, Slice, Tensor
from nybble.lower.focus import without_focus
from nybble.reference import interpret


def focus(
    phases: list[tuple[int, int]],
    step: tuple[int, int] = (2, 2),
    size: tuple[int, int] = (3, 4),
    kernel: tuple[int, int] = (3, 3),
    stride: tuple[int, int] = (1, 1),
    padding: Padding = Padding(1, 1, 1, 1),
    pooled: bool = False,
) -> Graph:
    """Phases by a slice of rows, then one of columns; with ``pooled`` the first ones are pools of a single code."""
    rows, columns = size[0] * step[0], size[1] * step[1]
    nodes: list[Node] = []
    for place, (first, second) in enumerate(phases):
        if pooled and first == 0:
            down: Node = MaxPool2d(
                name=f"rows{place}", inputs=("x",), input_type=DType.S8, kernel_size=Pair(1, 1), stride=Pair(step[0], 1)
            )
        else:
            start, stop = (0, first, 0), (2, rows, columns)
            down = Slice(
                name=f"rows{place}", inputs=("x",), input_type=DType.S8, start=start, stop=stop, step=(1, step[0], 1)
            )
        start, stop = (0, 0, second), (2, size[0], columns)
        across = Slice(
            name=f"phase{place}",
            inputs=(down.name,),
            input_type=DType.S8,
            start=start,
            stop=stop,
            step=(1, 1, step[1]),
        )
        nodes += [down, across]
    joined = Concat(name="joined", inputs=tuple(f"phase{place}" for place in range(len(phases))), input_type=DType.S8)
    weight = np.random.default_rng(0).integers(-128, 127, (3, 2 * len(phases), *kernel))
    conv = Conv2d(
        name="conv",
        inputs=("joined",),
        input_type=DType.S8,
        weight=Tensor.from_array(DType.S8, weight),
        padding=padding,
        stride=Pair(*stride),
    )
    entry = Input(name="x", dtype=DType.S8, shape=(2, rows, columns))
    return Graph([entry], [*nodes, joined, conv], ["conv"])


def codes(graph: Graph, count: int = 2) -> np.ndarray:
    return np.random.default_rng(1).integers(-128, 128, (count, *graph.inputs[0].shape)).astype(np.int8)


@given(st.data())
def test_sums_are_the_same(data: st.DataObject) -> None:
    step = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 3)).filter(lambda pair: pair != (1, 1)))
    known = [(first, second) for first in range(step[0]) for second in range(step[1])]
    phases = data.draw(st.lists(st.sampled_from(known), min_size=2, max_size=4, unique=True))
    small = st.integers(1, 4)
    size, kernel = data.draw(st.tuples(small, small)), data.draw(st.tuples(small, small))
    sides = [data.draw(st.integers(0, 3)) for _ in range(4)]
    padding = Padding(*sides)
    if size[0] + padding.top + padding.bottom < kernel[0] or size[1] + padding.left + padding.right < kernel[1]:
        padding = Padding(kernel[0], kernel[1], kernel[0], kernel[1])
    stride = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    graph = focus(phases, step, size, kernel, stride, padding, data.draw(st.booleans()))
    folded = without_focus(graph)
    assert [node.op for node in folded] == ["Conv2d"]
    assert folded.values["conv"] == graph.values["conv"]
    given_codes = codes(graph)
    np.testing.assert_array_equal(interpret(folded, given_codes)["conv"], interpret(graph, given_codes)["conv"])


ALL = [(0, 0), (1, 0), (0, 1), (1, 1)]


@pytest.mark.parametrize("isa", available_isas())
@pytest.mark.parametrize("phases", [ALL, [(1, 1), (0, 0)]])
def test_the_engine_runs_one_convolution(isa: str, phases: list[tuple[int, int]]) -> None:
    graph = focus(phases, size=(5, 7))
    given_codes = codes(graph, 3)
    with Engine(graph, 2, isa) as engine:
        assert [step.kind for step in engine.steps] == ["conv"]
        np.testing.assert_array_equal(engine.run_integer(given_codes), interpret(graph, given_codes)["conv"])
        assert set(engine.tap(given_codes)) == {"conv"}


def test_what_others_read_stays() -> None:
    graph = focus(ALL)
    both = Graph(graph.inputs, graph.nodes, ["conv", "joined", "rows1"])
    assert {node.name for node in without_focus(both)} == {node.name for node in graph}
    alone = Graph(graph.inputs, graph.nodes, ["conv", "rows1"])
    assert [node.name for node in without_focus(alone)] == ["rows1", "conv"]


def changed(graph: Graph, name: str, **values: Any) -> Graph:
    nodes = [replace(node, **values) if node.name == name else node for node in graph]
    return Graph(graph.inputs, nodes, graph.outputs)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("conv", {"dilation": Pair(2, 1), "padding": Padding(2, 1, 2, 1)}),
        # A phase twice.
        ("joined", {"inputs": ("phase0", "phase0", "phase1", "phase2")}),
        # Not to the end of the columns.
        ("phase0", {"stop": (2, 3, 7), "start": (0, 0, 0)}),
    ],
)
def test_other_networks_stay(name: str, values: dict[str, object]) -> None:
    graph = changed(focus(ALL), name, **values)
    folded = without_focus(graph)
    given_codes = codes(graph)
    np.testing.assert_array_equal(interpret(folded, given_codes)["conv"], interpret(graph, given_codes)["conv"])
    if name != "phase0":
        assert folded is graph
