"""The grouped method: depthwise and grouped convolutions of any geometry, and sums at the bounds of its chains."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from agreement import ISAS, assert_agrees
from hypothesis import given
from kernels import always, forced
from networks import Network, conv_networks, copied, images

from nybble.backends.cpu.rows import rows
from nybble.engine import Engine
from nybble.graph import Conv2d, DType, Graph, Padding, Pair, Tensor
from nybble.graph.types import ACTIVATIONS
from strategies import values_of

VECTOR_ISAS = [isa for isa in ISAS if isa != "scalar"]
EXTREMES = ("highest", "lowest", "extreme")
#: The second takes depthwise layers alone, and is not in every instruction set: others keep the portable kernel.
METHODS = ("grouped", "depthwise")


def conv(
    dtype: DType, kind: DType, channels: tuple[int, int, int], kernel: int, style: str, *, stride: int = 1
) -> Graph:
    """A convolution of a stored value on 7x6 pixels; ``channels`` are groups, inputs and outputs."""
    groups, inputs, outputs = channels
    network = Network(dtype, (inputs, 7, 6))
    source = copied(network, dtype)
    before = (kernel - 1) // 2 if stride == 1 else max(0, kernel - 2) // 2
    network.add(
        Conv2d(
            name="conv",
            inputs=(source,),
            input_type=dtype,
            weight=Tensor.from_array(kind, values_of(kind, (outputs, inputs // groups, kernel, kernel), style, 5)),
            bias=Tensor.from_array(DType.S16, values_of(DType.S16, (outputs,), "random", 6)),
            stride=Pair(stride, stride),
            # TensorFlow's SAME: one-sided at stride 2.
            padding=Padding(before, before, kernel // 2, kernel // 2),
            groups=groups,
        )
    )
    return network.graph()


@given(st.data(), st.sampled_from((1, 2, 3)), st.sampled_from((1, 2, 8)))
def test_pairs_of_rows(data: st.DataObject, threads: int, together: int) -> None:
    """Odd heights leave a single row; kernels of many columns share nothing."""
    graph = data.draw(conv_networks(paired=True))
    with forced(always("depthwise", tile_pixels=data.draw(st.integers(1, 64)))):
        assert_agrees(graph, data.draw(images(graph)), [threads], together=together)


@given(st.data(), st.sampled_from((1, 2, 3)), st.sampled_from((1, 2, 8)))
def test_any_layer(data: st.DataObject, threads: int, together: int) -> None:
    """With any epilogue: shortcut, ReLU and requantize, in 16 bits, 32 or 64."""
    graph = data.draw(conv_networks(grouped=True))
    cuts = {
        "block_outputs": data.draw(st.sampled_from((32, 64, 256))),
        "tile_pixels": data.draw(st.integers(1, 64)),
    }
    with forced(always(data.draw(st.sampled_from(METHODS)), **cuts)):
        assert_agrees(graph, data.draw(images(graph)), [threads], together=together)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kernel", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("kind", [DType.S4, DType.S8])
@pytest.mark.parametrize("dtype", ACTIVATIONS)
def test_depthwise_at_the_bounds(dtype: DType, kind: DType, kernel: int, method: str) -> None:
    """Every product at its largest: a pair of u8 by s8 could saturate, and no chain of them fits 16 bits."""
    for stride in (1, 2):
        for style in EXTREMES:
            graph = conv(dtype, kind, (35, 35, 35), kernel, style, stride=stride)
            batch = np.concatenate([values_of(dtype, (1, 35, 7, 6), name, 3) for name in EXTREMES])
            with forced(always(method)):
                assert_agrees(graph, batch, isas=VECTOR_ISAS)


@pytest.mark.parametrize("each", [(1, 2), (2, 1), (3, 5), (4, 4), (8, 8), (16, 16), (32, 32), (40, 24), (65, 1)])
@pytest.mark.parametrize("dtype", [DType.U4, DType.S4, DType.S8])
def test_groups_of_any_size(dtype: DType, each: tuple[int, int]) -> None:
    """Inputs and outputs of a group: its inputs may lie further apart than one shuffle of bytes reaches."""
    groups = max(2, 66 // max(each))
    graph = conv(dtype, DType.S4, (groups, groups * each[0], groups * each[1]), 3, "extreme")
    with forced(always("grouped", tile_pixels=5)):
        assert_agrees(graph, values_of(dtype, (2, *graph.inputs[0].shape), "extreme", 4), isas=VECTOR_ISAS)


def test_who_gets_it_by_default() -> None:
    """Every convolution in groups, but on the network's input, which is stored without padding."""
    for isa in VECTOR_ISAS:
        depthwise = "depthwise" if "depthwise" in rows(isa) else "grouped"
        for channels, wanted in (((32, 32, 32), depthwise), ((4, 32, 64), "grouped"), ((1, 32, 32), None)):
            graph = conv(DType.U7, DType.S8, channels, 3, "random")
            with Engine(graph, isa=isa, tuned=False) as engine:
                method = engine.plan.kernels["conv"].method
                assert method == wanted if wanted else method not in METHODS
