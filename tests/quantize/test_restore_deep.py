"""Graphs whose steps would grow or shrink from layer to layer until float32 does not hold them come back as well."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from converted_examples import EXAMPLES, converted
from test_restore import assert_same
from torch import nn
from torch.nn import functional

from nybble.graph import Conv2d, DType, Graph, Input, Mul, Node, Padding, Quantize, Scale, Table, Tensor
from nybble.quantize import convert, from_graph
from nybble.quantize.fake.network import QuantizedNetwork
from nybble.quantize.ops.examples import FloatExample, around

#: Layers in a row. With the gains below, free steps change by 10^1.2 a layer, and float32 ends at 10^38.
DEPTH = 36
#: Of a layer's rounding: (weight in the middle, factor, shift).
GAINS = {"growing": (1, 1, 4), "shrinking": (7, 8, 0)}


def layers(graph: Graph, gain: str) -> Iterator[Node]:
    """Depthwise layers of 3x3 in a row, the last one's result being of the type of the graph's input."""
    entry = graph.inputs[0]
    channels, source = entry.shape[0], entry.name
    middle, factor, shift = GAINS[gain]
    weight = np.zeros((channels, 1, 3, 3), np.int8)
    weight[:, :, 1, 1] = middle
    for place in range(DEPTH):
        conv = Conv2d(
            name=f"deep{place}",
            inputs=(source,),
            input_type=entry.dtype,
            weight=Tensor.from_array(DType.S4, weight),
            padding=Padding(1, 1, 1, 1),
            groups=channels,
        )
        yield conv
        yield Quantize(
            name=f"deep{place}_codes",
            inputs=(conv.name,),
            input_type=DType.S32,
            output_type=entry.dtype,
            factor=Tensor.from_array(DType.U16, np.full(channels, factor)),
            shift=shift,
        )
        source = f"deep{place}_codes"


def deep(graph: Graph, gain: str) -> Graph:
    """A graph behind such layers."""
    entry = graph.inputs[0]
    before = list(layers(graph, gain))
    last = before[-1].name
    after = [
        replace(node, inputs=tuple(last if name == entry.name else name for name in node.inputs)) for node in graph
    ]
    return Graph([entry], [*before, *after], list(graph.outputs))


def assert_comes_back(graph: Graph) -> QuantizedNetwork:
    restored = from_graph(graph)
    steps = np.array([float(found.step()) for found in restored.activation_quantizers().values()])
    assert np.all((steps > 1e-9) & (steps < 1e9))
    again, report = convert(restored)
    assert_same(graph, again)
    assert sum(layer.coarser for layer in report.layers) == 0
    entry = graph.inputs[0]
    codes = np.random.default_rng(0).integers(entry.dtype.minimum, entry.dtype.maximum, (2, *entry.shape))
    x = torch.from_numpy(codes).float() * restored.input_quantizer.step()
    for mode in ("clip", "quantize"):
        restored.set_mode(mode)  # type: ignore[arg-type]
        assert bool(torch.isfinite(restored(x)).all()), mode
    return restored


@pytest.mark.parametrize("gain", GAINS)
@pytest.mark.parametrize("example", EXAMPLES)
def test_every_operation_behind_many_layers(example: FloatExample, gain: str) -> None:
    assert_comes_back(deep(converted(example)[1], gain))


def test_the_gains_are_ones_that_float32_does_not_hold() -> None:
    """Else the test above would hold without limits: the step follows weights and factors as `chosen_scale` says."""
    for gain, (middle, factor, shift) in GAINS.items():
        change = (2 / 9) ** 0.5 / (middle / 3 * factor / 2**shift)
        assert abs(np.log10(change)) * DEPTH > 38, gain
        assert (change > 1) == (gain == "growing")


def rounded(name: str, source: str, factor: int, shift: int) -> Quantize:
    """To s8, all of six channels alike."""
    factors = Tensor.from_array(DType.U16, np.full(6, factor))
    return Quantize(
        name=name, inputs=(source,), input_type=DType.S32, output_type=DType.S8, factor=factors, shift=shift
    )


def chain(kind: str) -> Graph:
    """A layer, nine products or functions in a row, each of the codes of the last, and another layer."""
    once = Tensor.from_array(DType.S4, np.full((6, 1, 1, 1), 3, np.int8))
    nodes: list[Node] = [
        Conv2d(name="first", inputs=("input",), input_type=DType.S8, weight=once, groups=6),
        rounded("codes", "first", 1, 1),
    ]
    entries = np.arange(-128, 128) // 100
    for place in range(9):
        source, name = nodes[-1].name, f"{kind}{place}"
        if kind == "table":
            table = Tensor.from_array(DType.S16, entries)
            nodes.append(
                Table(name=name, inputs=(source,), input_type=DType.S8, output_type=DType.S8, table=table, function="")
            )
        else:
            factor, shift = (1, 6) if kind == "growing" else (900, 0)
            nodes += [Mul(name=name, inputs=(source, source)), rounded(f"{name}_codes", name, factor, shift)]
    nodes.append(Conv2d(name="last", inputs=(nodes[-1].name,), input_type=DType.S8, weight=once, groups=6))
    nodes.append(Scale(name="scale", inputs=("last",), out_scale=Tensor.from_array(DType.F32, np.ones(6, np.float32))))
    return Graph([Input(name="input", dtype=DType.S8, shape=(6, 1, 1))], nodes, ["scale"])


@pytest.mark.parametrize("kind", ["growing", "shrinking", "table"])
def test_products_and_functions_in_a_row(kind: str) -> None:
    assert_comes_back(chain(kind))


def test_joined_values_may_have_several_shifts() -> None:
    example = around("joined", lambda: lambda x: torch.cat([functional.relu(x), functional.relu(-x)], 1), 12)
    _, graph = converted(example)
    names = [node.name for node in graph if isinstance(node, Quantize) and node.output_type is DType.U4][:2]
    nodes: list[Node] = []
    for node in graph:
        if node.name == names[1]:
            assert isinstance(node, Quantize)
            # The same multiplier, but for what the last digits say.
            node = replace(node, factor=Tensor.from_array(DType.U16, node.factor.numpy() // 2), shift=node.shift - 1)
        nodes.append(node)
    changed = Graph(list(graph.inputs), nodes, list(graph.outputs))
    restored = assert_comes_back(changed)
    assert [found.shifts for found in restored.activation_quantizers().values() if found.shifts]


def test_a_product_that_is_joined_has_a_ratio() -> None:
    class Joined(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(2)
            self.first, self.second, self.head = nn.Conv2d(3, 6, 3), nn.Conv2d(12, 8, 3), nn.Linear(8, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = functional.relu(self.first(x))
            joined = torch.cat([y, y * functional.max_pool2d(y, 3, 1, 1)], 1)
            return self.head(functional.relu(self.second(joined)).mean((2, 3)))

    restored = assert_comes_back(converted(FloatExample("joined", Joined().eval()))[1])
    (module,) = (step.module for step in restored.steps if type(step.module).__name__ == "Mul")
    assert module.ratio is not None and not module.multiplies
