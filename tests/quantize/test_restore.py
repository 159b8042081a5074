"""Graphs as networks that can be trained: converted again they are the same."""

from __future__ import annotations

from pathlib import Path

import float_networks
import numpy as np
import pytest
import torch
from calibrated_networks import calibrated

from nybble.graph import Conv2d, Graph, Linear, Quantize, Scale, Table, read_graph
from nybble.quantize.config import Bits
from nybble.quantize.lower.agreement import compare, input_codes
from nybble.quantize.lower.convert import convert
from nybble.quantize.lower.restore import from_graph
from nybble.reference import interpret
from nybble.synthetic import bottleneck_resnet


def assert_same(old: Graph, new: Graph) -> None:
    """Node for node: codes, biases, factors and shifts."""
    assert {node.name for node in old} == {node.name for node in new}
    for node in old:
        other = new[node.name]
        assert type(node) is type(other)
        assert set(node.inputs) == set(other.inputs)
        if isinstance(node, Conv2d | Linear) and isinstance(other, Conv2d | Linear):
            np.testing.assert_array_equal(node.weight.numpy(), other.weight.numpy(), err_msg=node.name)
            assert node.weight.dtype is other.weight.dtype
            if node.bias is not None and other.bias is not None:
                np.testing.assert_array_equal(node.bias.numpy(), other.bias.numpy(), err_msg=node.name)
        if isinstance(node, Quantize) and isinstance(other, Quantize):
            assert (node.shift, node.output_type) == (other.shift, other.output_type), node.name
            np.testing.assert_array_equal(node.factor.numpy(), other.factor.numpy(), err_msg=node.name)
        if isinstance(node, Table) and isinstance(other, Table):
            np.testing.assert_array_equal(node.table.numpy(), other.table.numpy(), err_msg=node.name)
        if isinstance(node, Scale) and isinstance(other, Scale):
            np.testing.assert_allclose(other.out_scale.numpy(), node.out_scale.numpy(), rtol=3e-7)


@pytest.mark.parametrize(
    ("bits", "method"), [(Bits.W4A4, "ste"), (Bits.W8A8, "ste"), (Bits.MIXED, "ste"), (Bits.MIXED, "lsq")]
)
@pytest.mark.parametrize("name", float_networks.NETWORKS)
def test_what_was_converted_comes_back(name: str, bits: Bits, method: str) -> None:
    network, shape = calibrated(name, bits)
    graph, _ = convert(network)
    restored = from_graph(graph, method=method)  # type: ignore[arg-type]
    again, report = convert(restored)
    assert_same(graph, again)
    assert restored.preprocessing == network.preprocessing
    found = compare(restored, again, report, [float_networks.images(shape, 4, 3)])
    assert found.largest <= 1 and found.off_rate < 1e-3


def test_a_network_of_the_published_structure_comes_back_and_learns() -> None:
    graph = bottleneck_resnet((1, 2), width=8, classes=10, image=32)
    network = from_graph(graph, method="lsq")
    again, _ = convert(network)
    assert_same(graph, again)
    x = float_networks.images((3, 32, 32), 2)
    codes = input_codes(network, x)
    np.testing.assert_allclose(
        interpret(graph, codes)[graph.outputs[0]], interpret(again, codes)[again.outputs[0]], rtol=1e-6
    )
    network.train()
    network(x).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and bool(torch.isfinite(parameter.grad).all()), name
    network.set_mode("clip")
    assert bool(torch.isfinite(network(x)).all())


@pytest.mark.data
def test_the_published_directory_comes_back_node_for_node(shared_data: Path) -> None:
    graph = read_graph(shared_data / "nvidia-resnet50-int4" / "model")
    network = from_graph(graph)
    again, report = convert(network)
    assert_same(graph, again)
    assert sum(layer.coarser for layer in report.layers) == 0
