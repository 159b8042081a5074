"""Fusion: each node in one step, steps in order, and the steps that a bottleneck block should become."""

from __future__ import annotations

from itertools import pairwise

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from networks import (
    Network,
    conv_networks,
    copied,
    gated_networks,
    images,
    linear_networks,
    mixed_networks,
    stacked_networks,
)

from nybble.backends.cpu.order import order_classes
from nybble.graph import (
    Add,
    AvgPool2d,
    Conv2d,
    DType,
    Graph,
    Linear,
    MaxPool2d,
    Mul,
    Padding,
    Pair,
    Quantize,
    ReLU,
    Table,
    Tensor,
)
from nybble.graph.macs import macs
from nybble.graph.types import ACTIVATIONS, SUMS
from nybble.lower import Step, fuse
from nybble.reference import interpret
from nybble.synthetic import bottleneck_resnet

NETWORKS = st.one_of(mixed_networks(), stacked_networks(), conv_networks(), linear_networks(), gated_networks())


@given(NETWORKS)
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


@given(st.data())
def test_steps_carry_types_shapes_and_bounds(data: st.DataObject) -> None:
    """What they say of values is what the graph says; no sum that the reference computes passes their bound."""
    graph = data.draw(NETWORKS)
    values = interpret(graph, data.draw(images(graph, 2)), keep=None)
    for step in fuse(graph):
        for value in (*step.inputs, step.result):
            said = graph.values[value.name]
            assert (value.dtype, value.shape, value.magnitude) == (said.dtype, said.shape, said.magnitude)
            assert value.is_input == (value.name == graph.inputs[0].name)
            assert value.is_output == (value.name in graph.outputs)
            if value.dtype in ACTIVATIONS:
                low, high = value.clipped
                assert low <= min(0, int(values[value.name].min(initial=0)))
                assert high >= max(0, int(values[value.name].max(initial=0)))
        within = [node.name for node in step.nodes if node is not step.quantize]
        for name in (*step.reads, *within):
            if graph.values[name].dtype in SUMS:
                assert int(np.abs(values[name].astype(np.int64)).max(initial=0)) <= step.sum_bound
        assert step.macs == sum(macs(graph, node) for node in step.nodes)


@pytest.mark.parametrize(("maximum", "most"), [(None, 255), (480, 240), (481, 241), (10**6, 255), (0, 0)])
def test_clips_bound_values_whatever_the_weights(maximum: int | None, most: int) -> None:
    """The maximum of a ReLU does, through a Quantize and a pool; weights that happen to be small do not."""
    network = Network(DType.U4, (2, 4, 4))
    weight = Tensor.from_array("s4", [[[[1]], [[0]]]] * 2)
    network.add(Conv2d(name="conv", inputs=("image",), input_type=DType.U4, weight=weight))
    network.add(ReLU(name="relu", inputs=("conv",), maximum=maximum))
    network.requantize("quantize", "relu", DType.U8, 1, 1)
    window = Pair(2, 2)
    network.add(MaxPool2d(name="pool", inputs=("quantize",), input_type=DType.U8, kernel_size=window, stride=window))
    graph = network.graph()
    (last,) = (step for step in fuse(graph) if step.output == "pool")
    assert last.input.clipped == last.result.clipped == (0, most)
    assert graph.values["pool"].magnitude == min(most, 8)
    assert fuse(graph)[0].input.clipped == (0, 15)


def tabled(network: Network, name: str, source: str) -> str:
    dtype = network.values[source].dtype
    entries = np.arange(dtype.minimum, dtype.maximum + 1)
    table = Tensor.from_array(DType.S16, entries)
    return network.add(Table(name=name, inputs=(source,), input_type=dtype, output_type=dtype, table=table))


def test_a_table_joins_the_quantize_that_it_alone_reads() -> None:
    network = Network(DType.U4, (3, 2, 2))
    weight = Tensor.from_array("s4", np.ones((3, 3, 1, 1), np.int64))
    conv = network.add(Conv2d(name="conv", inputs=("image",), input_type=DType.U4, weight=weight))
    first = tabled(network, "first", network.requantize("codes", conv, DType.S8, 1, 0))
    second = tabled(network, "second", first)
    product = network.add(Mul(name="mul", inputs=(first, second)))
    last = tabled(network, "last", network.requantize("narrow", product, DType.U7, 1, 4))
    network.add(Mul(name="square", inputs=(last, last)))
    steps = fuse(network.graph())
    # The second one follows a table, and the first one's result is read twice.
    expected = [["conv", "codes", "first"], ["second"], ["mul", "narrow", "last"], ["square"]]
    assert [[node.name for node in step.nodes] for step in steps] == expected
    assert [step.kind for step in steps] == ["conv", "table", "mul", "mul"]
    assert [step.reads for step in steps[2:]] == [["first", "second"], ["last", "last"]]
    # The codes are read twice.
    both = Network(DType.U8, (3, 2, 2))
    codes = both.requantize("codes", "image", DType.S8, 1, 9)
    both.add(Mul(name="mul", inputs=(codes, tabled(both, "table", codes))))
    assert [step.kind for step in fuse(both.graph())] == ["point", "table", "mul"]


def test_products_tie_the_orders_of_what_they_read() -> None:
    network = Network(DType.U4, (3, 4, 4))
    for name, source, inputs in (("wide", "image", 3), ("gate", "pool", 8)):
        if name == "gate":
            network.add(
                AvgPool2d(
                    name="pool", inputs=("wide_codes",), input_type=DType.U4, kernel_size=Pair(4, 4), stride=Pair(4, 4)
                )
            )
        weight = Tensor.from_array("s4", np.arange(8 * inputs).reshape(8, inputs, 1, 1) % 15 - 7)
        conv = network.add(Conv2d(name=name, inputs=(source,), input_type=DType.U4, weight=weight))
        network.requantize(f"{name}_codes", conv, DType.U4, 1, 3)
    gate = tabled(network, "gate_table", "gate_codes")
    product = network.add(Mul(name="mul", inputs=("wide_codes", gate)))
    network.requantize("y", product, DType.U4, 1, 4)
    weight = Tensor.from_array("s4", np.ones((2, 8, 1, 1), np.int64))
    network.add(Conv2d(name="last", inputs=("y",), input_type=DType.U4, weight=weight))
    (tied,) = order_classes(fuse(network.graph()))
    # The pool ties as well, so that one order serves all of them.
    assert set(tied) == {"wide_codes", "pool", "gate_table", "y"}
