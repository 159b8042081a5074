"""Fusion: each node in one step, steps in order, and the steps that a bottleneck block should become."""

from __future__ import annotations

from itertools import pairwise

import hypothesis.strategies as st
from hypothesis import given
from networks import Network, conv_networks, copied, linear_networks, mixed_networks, stacked_networks

from nybble.graph import Add, Conv2d, DType, Graph, Linear, Padding, Quantize, ReLU, Table, Tensor
from nybble.graph.types import ACTIVATIONS
from nybble.lower import Step, fuse
from nybble.synthetic import bottleneck_resnet


@given(st.one_of(mixed_networks(), stacked_networks(), conv_networks(), linear_networks()))
def test_steps_hold_every_node_once_and_read_what_is_stored(graph: Graph) -> None:
    steps = fuse(graph)
    names = [node.name for step in steps for node in step.nodes]
    assert sorted(names) == sorted(node.name for node in graph)
    stored = {graph.inputs[0].name}
    for step in steps:
        assert set(step.reads) <= stored
        assert step.source == step.head.inputs[0]
        check_chain(graph, step)
        stored.add(step.output)
    assert set(graph.outputs) <= stored


def check_chain(graph: Graph, step: Step) -> None:
    """What is fused is read by the step alone, and the step's parts are those of its nodes, in their order."""
    rescale = [step.shortcut_quantize] if step.shortcut_quantize is not None else []
    chain = [node for node in step.nodes if node not in rescale]
    assert chain[0] is step.head
    assert chain[-1].name == step.output
    for node, following in pairwise(chain):
        assert node.name in following.inputs
    kinds = [type(node) for node in chain[1:]]
    assert kinds == [kind for kind in (Add, ReLU, Quantize, Table) if kind in kinds]
    for node in [*chain[:-1], *rescale]:
        assert [reader.name for reader in graph.consumers()[node.name]] == [
            other.name for other in step.nodes if node.name in other.inputs
        ]
        assert node.name not in graph.outputs


def test_a_bottleneck_becomes_a_step_a_convolution() -> None:
    graph = bottleneck_resnet(blocks=(2,), width=8, classes=5, image=32, seed=1)
    steps = fuse(graph)
    weighted = [node for node in graph if isinstance(node, Conv2d | Linear)]
    assert len(steps) == len(weighted) + 3  # two pools and Scale
    last = next(step for step in steps if step.head.name == "layer1_1_conv3")
    assert [type(node) for node in last.nodes] == [Conv2d, Quantize, Add, ReLU, Quantize]
    assert last.reads == ["layer1_1_quantize2", "layer1_0_quantize3"]
    projection = next(step for step in steps if step.head.name == "layer1_0_conv3")
    assert projection.shortcut is not None and projection.shortcut.name == "layer1_0_downsample_1"


def test_a_clamp_that_can_matter_is_not_left_out() -> None:
    """A rescaled shortcut joins its addition only where its own clamp does nothing: u31 cuts negative values off."""
    for source in ACTIVATIONS:
        for target in (DType.S32, DType.U31):
            network = Network(source, (3, 2, 2))
            copy = copied(network, source)
            weight = Tensor.from_array("s4", [[[[1]], [[1]], [[-3]]]] * 3)
            conv = network.add(Conv2d(name="conv", inputs=(copy,), input_type=source, weight=weight))
            other = network.requantize("rescale", copy, target, 3, 1)
            network.add(Add(name="add", inputs=(conv, other)))
            step = fuse(network.graph())[-1]
            assert (step.shortcut_quantize is not None) == (target is DType.S32 or not source.is_signed)


def test_what_two_nodes_read_is_stored() -> None:
    network = Network(DType.U4, (2, 3, 3))
    weight = Tensor.from_array("s4", [[[[1]], [[2]]]] * 2)
    conv = network.add(
        Conv2d(name="conv", inputs=("image",), input_type=DType.U4, weight=weight, padding=Padding(1, 1, 1, 1))
    )
    relu = network.add(ReLU(name="relu", inputs=(conv,)))
    network.add(Add(name="add", inputs=(conv, relu)))
    assert [[node.name for node in step.nodes] for step in fuse(network.graph())] == [["conv"], ["relu"], ["add"]]
    double = Network(DType.U4, (2, 3, 3))
    double.add(Conv2d(name="conv", inputs=("image",), input_type=DType.U4, weight=weight))
    double.add(Add(name="add", inputs=("conv", "conv")))
    assert [step.output for step in fuse(double.graph())] == ["conv", "add"]
