"""Changes to sums that are built already: other signs, other biases."""

from __future__ import annotations

from graphlib import TopologicalSorter

import numpy as np
import pytest

from nybble.graph import DType, Graph, Quantize, ReLU, Tensor
from nybble.graph.types import Array
from nybble.reference import interpret

pytest.importorskip("onnx")
from nybble.graph.onnx.builder import Builder
from nybble.graph.onnx.metadata import Metadata
from nybble.graph.onnx.splitting import moved
from nybble.graph.onnx.values import Real

CODES = np.arange(-128, 128, dtype=np.int8).reshape(-1, 2, 1, 1)
SIGN = np.array([-1, 1])


def turned(build: Builder, name: str, number: Array) -> Array:
    """The sum with the first channel's sign changed and numbers added, in its own steps."""
    made = moved(build, Real(name, np.ones(2), True), SIGN, number, "turned")
    # A node that was changed in its place may read one that was made later.
    order = TopologicalSorter({node.name: node.inputs for node in build.nodes}).static_order()
    named = {node.name: node for node in build.nodes}
    graph = Graph(build.inputs, [named[name] for name in order if name in named], [made.value])
    steps = interpret(graph, CODES)[made.value].astype(np.float64)
    result: Array = steps * made.unit.reshape(-1, 1, 1)
    return result


@pytest.mark.parametrize("number", [(0.0, 0.0), (5.0, -7.0)])
@pytest.mark.parametrize("cut", [False, True])
def test_a_requantized_sum_is_turned(cut: bool, number: tuple[float, float]) -> None:
    """Also one that reads a ReLU, whose own signs cannot be turned."""
    build = Builder(Metadata())
    ones = Tensor.from_array(DType.U16, np.ones(2, np.uint16))
    value = build.requantize("sum", build.enter("x", DType.S8, (2, 1, 1)), DType.S32, ones, 0)
    expected = CODES.astype(np.float64)
    if cut:
        value = build.add(ReLU(name="relu", inputs=(value,)))
        expected = np.maximum(expected, 0)
    reads = build.types[value].dtype
    wider = Quantize(name="wider", inputs=(value,), input_type=reads, output_type=DType.S32, factor=ones, shift=0)
    found = turned(build, build.add(wider), np.array(number))
    np.testing.assert_array_equal(found, expected * SIGN.reshape(-1, 1, 1) + np.reshape(number, (2, 1, 1)))
