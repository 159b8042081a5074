"""Networks with gates and tables, end to end: captured or read, calibrated, converted, run, exported, imported again.

In continuous integration all eight networks come from PyTorch and two from both exporters of ONNX. All of them do with
NYBBLE_ALL_ROUTES=1, which takes minutes more.
"""

from __future__ import annotations

import functools
import sys
from collections import Counter
from pathlib import Path

import gated_networks
import numpy as np
import pytest
import torch
from gated_networks import EXPORTED, NETWORKS, ROUTES, SHAPE
from test_restore import assert_same
from torch.nn import functional

onnxruntime = pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install 'nybble[bench]'")
pytest.importorskip("onnxscript", reason="needs onnxscript: pip install 'nybble[dev]'")

from nybble.engine import Engine, available_isas  # noqa: E402 - needs onnx
from nybble.graph import Graph, Mul, Table, read_graph, write_graph  # noqa: E402
from nybble.graph.onnx import export_onnx, import_onnx  # noqa: E402
from nybble.graph.types import Array  # noqa: E402
from nybble.quantize import QuantizedNetwork, calibrate, convert, from_graph  # noqa: E402
from nybble.quantize.config import QuantizeConfig  # noqa: E402
from nybble.quantize.lower.agreement import input_codes  # noqa: E402
from nybble.quantize.prepare.prepare import prepare_captured  # noqa: E402
from nybble.reference import interpret  # noqa: E402

sys.path.append(str(Path(__file__).parent.parent / "graph"))
from comparison import assert_equal  # noqa: E402
from saturation import saturates  # noqa: E402

#: Functions and products of each network.
EXPECTED = {
    "efficientnet_b0": ({"SiLU": 49, "Sigmoid": 16}, 16),
    "mobilenet_v3_large": ({"HardSwish": 21, "HardSigmoid": 8}, 8),
    "mobilenet_v3_small": ({"HardSwish": 19, "HardSigmoid": 9}, 9),
    "regnet_y_400mf": ({"Sigmoid": 16}, 16),
    "semnasnet_100": ({"Sigmoid": 8}, 8),
    "ghostnet_100": ({"HardSigmoid": 7}, 7),
    "hardcorenas_a": ({"HardSwish": 15, "HardSigmoid": 8}, 8),
    "darknet53": ({"LeakyReLU(0.01)": 52}, 0),
}
LEVELS = (
    onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
    *([] if saturates() else [onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL]),
)


def quantized(network: object) -> QuantizedNetwork:
    prepared = prepare_captured(network, QuantizeConfig())  # type: ignore[arg-type]
    calibrate(prepared, [gated_networks.images(8, 5)])
    return prepared


@functools.cache
def from_pytorch(name: str) -> tuple[Graph, Array]:
    """The integer network of the module itself, and codes of images."""
    prepared = quantized(gated_networks.captured(name))
    return convert(prepared)[0], input_codes(prepared, gated_networks.images(2, 6))


def in_onnxruntime(path: Path, codes: Array, level: object) -> Array:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    found: Array = session.run(None, {"input": codes})[0]
    return found


@pytest.mark.parametrize("name", NETWORKS)
def test_it_runs_and_goes_to_onnx_and_back(name: str, tmp_path: Path) -> None:
    graph, codes = from_pytorch(name)
    functions, products = EXPECTED[name]
    assert Counter(node.function for node in graph if isinstance(node, Table)) == functions
    assert sum(isinstance(node, Mul) for node in graph) == products

    values = interpret(graph, codes, keep=None)
    logits = values[graph.outputs[0]]
    assert np.std(logits) > 0.05 and not np.array_equal(logits[0], logits[1])
    for isa in available_isas():
        with Engine(graph, threads=1, isa=isa, tuned=False) as engine:
            for step, found in engine.tap(codes).items():
                np.testing.assert_array_equal(found, values[step], err_msg=f"{isa}: {step}")

    write_graph(graph, tmp_path / "model")
    assert_equal(read_graph(tmp_path / "model"), graph)
    qdq, exact = tmp_path / "qdq.onnx", tmp_path / "exact.onnx"
    export_onnx(graph, qdq)
    export_onnx(graph, exact, form="exact")
    for level in LEVELS:
        np.testing.assert_array_equal(in_onnxruntime(qdq, codes.astype(np.float32), level), logits)
        np.testing.assert_array_equal(in_onnxruntime(exact, codes, level), logits)
    assert_equal(import_onnx(qdq).graph, graph)


@pytest.mark.parametrize("name", NETWORKS)
def test_it_is_restored(name: str) -> None:
    """A network that can be trained, and from it the same nodes; in it, values keep their size however deep it is."""
    graph, _ = from_pytorch(name)
    restored = from_graph(graph)
    steps = [float(found.step()) for found in restored.activation_quantizers().values()]
    assert min(steps) > 1e-6 and max(steps) < 1e6
    assert_same(graph, convert(restored)[0])


@pytest.mark.parametrize(("name", "route"), [case for case in gated_networks.cases() if case[1] != ROUTES[0]])
def test_exported_files_give_the_same_network(name: str, route: str, tmp_path: Path) -> None:
    """The same nodes in the same types; constants may differ in the last place, as exporters fold batch norm."""
    expected, codes = from_pytorch(name)
    graph = convert(quantized(gated_networks.read(name, route, tmp_path)))[0]
    assert [type(node) for node in graph] == [type(node) for node in expected]
    assert [graph.values[node.name] for node in graph if isinstance(node, Table | Mul)] == [
        expected.values[node.name] for node in expected if isinstance(node, Table | Mul)
    ]
    assert [node.function for node in graph if isinstance(node, Table)] == [
        node.function for node in expected if isinstance(node, Table)
    ]
    logits = interpret(graph, codes)[graph.outputs[0]]
    with Engine(graph, threads=1, tuned=False) as engine:
        np.testing.assert_array_equal(engine.run_integer(codes), logits)
    qdq = tmp_path / "qdq.onnx"
    export_onnx(graph, qdq)
    np.testing.assert_array_equal(in_onnxruntime(qdq, codes.astype(np.float32), LEVELS[-1]), logits)
    assert_equal(import_onnx(qdq).graph, graph)


def test_exported_networks_are_among_all() -> None:
    assert set(EXPORTED) <= set(NETWORKS) == set(EXPECTED)


def test_it_is_fine_tuned() -> None:
    """Ten steps towards the float network's answers; gradients pass tables and products."""
    name = "mobilenet_v3_small"
    network = quantized(gated_networks.captured(name))
    x = gated_networks.images(12, 7)
    with torch.no_grad():
        target = gated_networks.make(name)(x)
    network.train()
    optimizer = torch.optim.SGD(network.parameters(), lr=2e-3, momentum=0.9)
    losses = []
    for _ in range(10):
        loss = functional.mse_loss(network(x), target)
        optimizer.zero_grad()
        loss.backward()
        if not losses:
            without = [key for key, layer in network.layers().items() if not bool(layer.weight.grad.abs().sum() > 0)]
            assert without == []
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
    assert all(map(np.isfinite, losses))
    assert min(losses[-3:]) < losses[0]
    network.eval()
    graph, _ = convert(network)
    codes = input_codes(network, x[:2])
    with Engine(graph, threads=1, tuned=False) as engine:
        found = engine.run_integer(codes)
    np.testing.assert_array_equal(found, interpret(graph, codes)[graph.outputs[0]])
    assert found.shape == (2, gated_networks.CLASSES)
    assert graph.inputs[0].shape == SHAPE
