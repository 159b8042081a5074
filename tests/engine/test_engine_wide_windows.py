"""Windows that are wide: max pools up to 13x13, as in spatial pyramids, and convolutions with dilation up to 36."""

from __future__ import annotations

import numpy as np
import pytest
from agreement import ISAS, assert_agrees

from nybble.graph import Conv2d, DType, Graph, Input, MaxPool2d, Node, Padding, Pair, Tensor
from nybble.graph.types import Array

SHAPE = (33, 14, 15)


def codes(dtype: DType, seed: int) -> Array:
    random = np.random.default_rng(seed)
    return random.integers(dtype.minimum, dtype.maximum, (2, *SHAPE), endpoint=True).astype(dtype.storage)


def network(dtype: DType, node: Node) -> Graph:
    return Graph([Input(name="x", dtype=dtype, shape=SHAPE)], [node], [node.name])


@pytest.mark.parametrize("dtype", [DType.U4, DType.S4, DType.U7, DType.S8])
@pytest.mark.parametrize("size", [5, 9, 13])
def test_max_pools(size: int, dtype: DType) -> None:
    around = Padding(*[size // 2] * 4)
    kernel = Pair(size, size)
    node = MaxPool2d(
        name="pool", inputs=("x",), input_type=dtype, kernel_size=kernel, stride=Pair(1, 1), padding=around
    )
    assert_agrees(network(dtype, node), codes(dtype, size), isas=(ISAS[0], ISAS[-1]))


@pytest.mark.parametrize("groups", [1, 33])
@pytest.mark.parametrize("dilation", [12, 16, 36])
@pytest.mark.parametrize("dtype", [DType.U4, DType.S8])
def test_dilation(dtype: DType, dilation: int, groups: int) -> None:
    random = np.random.default_rng(dilation)
    weight = random.integers(-8, 7, (33, 33 // groups, 3, 3), endpoint=True)
    node = Conv2d(
        name="conv",
        inputs=("x",),
        input_type=dtype,
        weight=Tensor.from_array(DType.S4, weight),
        padding=Padding(*[dilation] * 4),
        dilation=Pair(dilation, dilation),
        groups=groups,
    )
    assert_agrees(network(dtype, node), codes(dtype, dilation), isas=(ISAS[0], ISAS[-1]))
