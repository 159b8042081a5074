"""Channel orders: permutations, shared where values are tied together, absent where they must be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nybble.backends.cpu.order import channel_orders, match
from nybble.graph import Add, Conv2d, DType, Graph, Input, Padding, Quantize, ReLU, Scale, Tensor
from nybble.lower import fuse
from nybble.synthetic import bottleneck_resnet


@given(st.integers(0, 33), st.integers(0, 2**32 - 1))
def test_matching_is_a_permutation(size: int, seed: int) -> None:
    score = np.random.default_rng(seed).standard_normal((size, size)).astype(np.float32)
    order = match(score + score.T)
    assert sorted(order.tolist()) == list(range(size))


def test_matching_pairs_the_similar() -> None:
    score = np.zeros((6, 6), dtype=np.float32)
    for left, right in ((0, 5), (1, 3), (2, 4)):
        score[left, right] = score[right, left] = 1
    order = match(score)
    assert {frozenset(pair) for pair in order.reshape(3, 2).tolist()} == {
        frozenset(p) for p in ((0, 5), (1, 3), (2, 4))
    }


def test_a_stage_shares_one_order() -> None:
    graph = bottleneck_resnet(blocks=(2, 1, 1, 1), width=8, classes=10, image=32, seed=1)
    orders = channel_orders(fuse(graph))
    # The block's output and the shortcut that is added to it.
    assert np.array_equal(orders["layer1_0_quantize3"], orders["layer1_1_quantize3"])
    assert np.array_equal(orders["layer1_0_quantize3"], orders["layer1_0_downsample_1"])
    # The pool and what it reads.
    assert np.array_equal(orders["quantize1"], orders["maxpool"])
    assert graph.inputs[0].name not in orders
    assert graph.outputs[0] not in orders


@pytest.mark.parametrize("groups", [1, 2])
def test_grouped_convolutions_keep_the_order_of_both_sides(groups: int) -> None:
    def conv(name: str, source: str, inputs: int, dtype: DType, groups: int = 1) -> Conv2d:
        weight = np.arange(8 * (inputs // groups) * 9).reshape(8, inputs // groups, 3, 3) % 15 - 7
        return Conv2d(
            name=name,
            inputs=(source,),
            input_type=dtype,
            weight=Tensor.from_array("s4", weight),
            padding=Padding(1, 1, 1, 1),
            groups=groups,
        )

    factor = Tensor.from_array("u16", np.full(8, 100))

    def quantize(name: str, source: str) -> Quantize:
        return Quantize(
            name=name, inputs=(source,), input_type=DType.U31, output_type=DType.U4, factor=factor, shift=16
        )

    nodes = [
        conv("c1", "input", 3, DType.S8),
        ReLU(name="r1", inputs=("c1",)),
        quantize("q1", "r1"),
        conv("c2", "q1", 8, DType.U4, groups),
        ReLU(name="r2", inputs=("c2",)),
        quantize("q2", "r2"),
        conv("c3", "q2", 8, DType.U4),
        conv("c4", "q2", 8, DType.U4),
        Add(name="sum", inputs=("c3", "c4")),
        Scale(name="scale", inputs=("sum",), out_scale=Tensor.from_array("f32", np.ones(8, dtype=np.float32))),
    ]
    graph = Graph([Input(name="input", dtype=DType.S8, shape=(3, 6, 6))], nodes, ["scale"])
    orders = channel_orders(fuse(graph))
    assert ("q1" in orders) == (groups == 1)
    assert ("q2" in orders) == (groups == 1)
    # Scale divides by the class's own number and hands the result out.
    assert "sum" not in orders
