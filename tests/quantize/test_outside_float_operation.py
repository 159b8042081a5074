"""An operation of another package goes from PyTorch and from float ONNX to the engine, without an edit in nybble."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from exported_networks import export
from torch import Tensor, nn

from nybble import Engine
from nybble.graph import Graph, read_graph, write_graph
from nybble.graph.ops import register as register_node
from nybble.graph.ops import unregister as unregister_node
from nybble.graph.plugins import PluginError
from nybble.quantize import QuantizedNetwork, calibrate, convert, from_graph, load_source, prepare
from nybble.quantize.lower.agreement import input_codes
from nybble.quantize.ops import register, unregister
from nybble.quantize.ops.table import TableFunction
from nybble.reference import interpret

sys.path.append(str(Path(__file__).parent.parent / "outside"))
import outside_half
import outside_half_float
from packages import run_with_entry_points

SHAPE = (3, 10, 9)


class Halving(nn.Module):
    """Two layers with the composition between them, written so that no operation of nybble fits it."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.second = nn.Conv2d(6, 8, 3, 2)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        y = (y + y.abs()) / 4
        y = torch.relu(self.second(y))
        return self.fc(y.mean((2, 3)))


def module() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(4)
        return Halving().eval()


def images() -> Tensor:
    return torch.randn(6, *SHAPE, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def registered() -> Iterator[None]:
    register_node(outside_half.operation)
    register(outside_half_float.operation)
    yield
    unregister(outside_half_float.operation)
    unregister_node(outside_half.operation)


def source_of(kind: str, folder: Path) -> nn.Module:
    if kind == "pytorch":
        return module()
    path = export(module(), folder / "halving.onnx", opset=18, batch=None, default=kind == "onnx", shape=SHAPE)
    found = load_source(str(path)).module
    assert found is not None
    return found


def quantized(source: nn.Module) -> tuple[QuantizedNetwork, Graph]:
    network = prepare(source, SHAPE)
    calibrate(network, [images()])
    return network, convert(network)[0]


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("kind", ["pytorch", "onnx", "onnx of the older exporter"])
def test_it_runs_bit_for_bit(kind: str, tmp_path: Path) -> None:
    network, graph = quantized(source_of(kind, tmp_path))
    assert [node.op for node in graph if node.op == "PositiveHalf"] == ["PositiveHalf"]
    write_graph(graph, tmp_path / "model")
    graph = read_graph(tmp_path / "model")
    codes = input_codes(network, images())
    expected = interpret(graph, codes)[graph.outputs[0]]
    with Engine(graph, threads=1) as engine:
        np.testing.assert_array_equal(engine.run_integer(codes), expected)
    network.set_mode("quantize")
    with torch.no_grad():
        np.testing.assert_allclose(network(images()).numpy(), expected.reshape(len(codes), -1), rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("registered")
def test_it_comes_back_from_the_graph() -> None:
    network, graph = quantized(module())
    again, _ = convert(from_graph(graph))
    codes = input_codes(network, images())
    np.testing.assert_allclose(
        interpret(again, codes)[again.outputs[0]], interpret(graph, codes)[graph.outputs[0]], rtol=1e-5
    )


def test_without_it_the_network_has_a_table_there() -> None:
    kinds = [type(step.module) for step in prepare(module(), SHAPE).steps]
    assert TableFunction in kinds
    assert outside_half_float.Half not in kinds


@pytest.mark.usefixtures("registered")
def test_a_class_belongs_to_one_operation() -> None:
    with pytest.raises(PluginError, match=r"^PositiveHalf belongs to HalfOperation; HalfOperation needs its own$"):
        register(outside_half_float.HalfOperation())


def test_an_entry_point_is_found(tmp_path: Path) -> None:
    code = (
        "from nybble.quantize.ops import aten_forms, onnx_operators\n"
        "print(len(aten_forms('abs.default')), 'Abs' in onnx_operators())"
    )
    groups = {
        "nybble.operations": "outside_half:operation",
        "nybble.float_operations": "outside_half_float:operation",
    }
    done = run_with_entry_points(tmp_path, groups, code)
    assert (done.stdout.strip(), done.stderr) == ("2 True", "")
