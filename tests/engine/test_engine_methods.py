"""Each convolution method with each cut of outputs, pixels and weights equals the reference."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from agreement import ISAS, assert_agrees
from hypothesis import given
from kernels import LIST_BLOCKS, METHODS, always, choices, forced, list_blocks
from networks import Network, conv_networks, copied, images, linear_networks, mixed_networks, stacked_networks

from nybble import _native
from nybble.backends.cpu.rows import rows
from nybble.engine import Engine
from nybble.graph import Add, Conv2d, DType, Graph, Padding, Pair, Tensor
from nybble.lower import fuse
from strategies import values_of

THREADS = st.sampled_from((1, 2, 3))
TOGETHER = st.sampled_from((1, 2, 3, 8))
VECTOR_ISAS = [isa for isa in ISAS if isa != "scalar"]


@given(st.data(), THREADS, TOGETHER)
def test_any_kernel_for_a_convolution(data: st.DataObject, threads: int, together: int) -> None:
    graph = data.draw(conv_networks())
    with forced(data.draw(choices())):
        assert_agrees(graph, data.draw(images(graph)), [threads], together=together)


@given(st.data(), THREADS, TOGETHER)
def test_any_kernel_for_a_linear_layer(data: st.DataObject, threads: int, together: int) -> None:
    graph = data.draw(linear_networks())
    with forced(data.draw(choices())):
        assert_agrees(graph, data.draw(images(graph)), [threads], together=together)


@given(st.data(), THREADS, TOGETHER)
def test_any_kernels_for_networks(data: st.DataObject, threads: int, together: int) -> None:
    graph = data.draw(mixed_networks())
    with forced(data.draw(choices())):
        assert_agrees(graph, data.draw(images(graph)), [threads], together=together)


@given(st.data(), THREADS, TOGETHER)
def test_any_kernels_for_stacks(data: st.DataObject, threads: int, together: int) -> None:
    graph = data.draw(stacked_networks())
    with forced(data.draw(choices())):
        assert_agrees(graph, data.draw(images(graph)), [threads], together=together)


def large_conv(dtype: DType, inputs: int, outputs: int, kernel: int, style: str) -> Graph:
    """A convolution of several blocks of pairs and of outputs, requantized so that most results differ."""
    network = Network(dtype, (inputs, 6, 5))
    source = copied(network, dtype)
    network.add(
        Conv2d(
            name="conv",
            inputs=(source,),
            input_type=dtype,
            weight=Tensor.from_array(DType.S4, values_of(DType.S4, (outputs, inputs, kernel, kernel), style, 5)),
            bias=Tensor.from_array(DType.S16, values_of(DType.S16, (outputs,), "random", 6)),
            padding=Padding(kernel // 2, kernel // 2, kernel // 2, kernel // 2),
        )
    )
    network.requantize("quantize", "conv", DType.S8, 50, 12)
    return network.graph()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("outputs", range(32, 257, 32))
def test_every_block_of_outputs(method: str, outputs: int) -> None:
    """A layer of just that many, and one cut into blocks of at most that many with a last one of another size."""
    for graph in (large_conv(DType.U4, 40, outputs, 1, "random"), large_conv(DType.U4, 33, 290, 1, "random")):
        with forced(always(method, block_outputs=outputs, tile_pixels=7)):
            assert_agrees(graph, values_of(DType.U4, (9, *graph.inputs[0].shape), "sparse", outputs), [2])


@pytest.mark.parametrize("style", ["highest", "lowest", "extreme", "random"])
@pytest.mark.parametrize("visit_bytes", [1, 2048, 1 << 20])
@pytest.mark.parametrize("block", LIST_BLOCKS)
@pytest.mark.parametrize("method", ["sparse", "sparse_single"])
def test_widening_where_weights_are_largest(method: str, block: int, visit_bytes: int, style: str) -> None:
    """With every activation at its largest, sums of 16 bits would overflow were they not widened in time."""
    graph = large_conv(DType.U4, 270, 40, 3, style)
    with forced(always(method, list_block=block, visit_bytes=visit_bytes)):
        for activations in ("highest", "sparse"):
            assert_agrees(graph, values_of(DType.U4, (2, 270, 6, 5), activations, 1), isas=VECTOR_ISAS)


def test_the_forced_kernels_run() -> None:
    """What the tests above rely on."""
    graph = large_conv(DType.U4, 40, 70, 3, "random")
    for isa in VECTOR_ISAS:
        for method in (row.name for row in _native.kernel_rows(isa) if not row.is_depthwise):
            with forced(always(method, block_outputs=64)), Engine(graph, threads=1, isa=isa) as engine:
                assert engine.plan.kernels["quantize"].method == method


@pytest.mark.parametrize("order", [(8, 20, 1), (20, 8, 1), (1, 20, 8)])
@pytest.mark.parametrize("isa", ISAS)
def test_convolutions_of_one_value_share_its_lists(isa: str, order: tuple[int, ...]) -> None:
    """Their weights would allow lists of different blocks; the planner's own choice must suit all."""
    network = Network(DType.U4, (150, 4, 3))
    source = copied(network, DType.U4)
    sums = []
    for position, largest in enumerate(order):
        weight = np.random.default_rng(position).integers(
            -largest, min(largest, 7 if largest == 8 else 127), (5, 150, 1, 1)
        )
        weight[0, 0] = -largest
        kind = DType.S4 if largest <= 8 else DType.S8
        conv = Conv2d(
            name=f"conv{position}", inputs=(source,), input_type=DType.U4, weight=Tensor.from_array(kind, weight)
        )
        sums.append(network.add(conv))
    first = network.add(Add(name="first", inputs=(sums[0], sums[1])))
    network.add(Add(name="second", inputs=(first, sums[2])))
    if "sparse" in rows(isa):
        assert list_blocks(fuse(network.graph()), source, isa, "sparse") == [16, 32]
    assert_agrees(network.graph(), values_of(DType.U4, (3, 150, 4, 3), "highest", 0), isas=[isa])


def test_strides_reach_past_the_end() -> None:
    """A stride far larger than the window, and one far larger than the image."""
    for stride in (Pair(5, 4), Pair(300, 1), Pair(1, 3000)):
        network = Network(DType.U8, (5, 11, 9))
        source = copied(network, DType.U8)
        weight = values_of(DType.S8, (7, 5, 2, 3), "random", 3)
        network.add(
            Conv2d(
                name="conv",
                inputs=(source,),
                input_type=DType.U8,
                weight=Tensor.from_array(DType.S8, weight),
                stride=stride,
                padding=Padding(1, 0, 0, 2),
            )
        )
        for method in METHODS[:3]:
            with forced(always(method)):
                assert_agrees(network.graph(), values_of(DType.U8, (2, 5, 11, 9), "random", 4), [2])
