"""Pools of every instruction set, small and in every type: what the drawn networks do at length."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from agreement import ISAS, assert_agrees
from hypothesis import assume, given
from networks import Network, copied

from nybble.graph import AvgPool2d, DType, GraphError, MaxPool2d, Padding, Pair
from nybble.graph.types import ACTIVATIONS


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", ACTIVATIONS, ids=str)
@pytest.mark.parametrize("kind", [MaxPool2d, AvgPool2d])
def test_a_pool_is_exact(kind: type[MaxPool2d | AvgPool2d], dtype: DType, isa: str) -> None:
    """33 channels: one more than a vector of the widest has."""
    network = Network(dtype, (33, 7, 6))
    source = copied(network, dtype)
    network.add(
        kind(
            name="pool",
            inputs=(source,),
            input_type=dtype,
            kernel_size=Pair(3, 2),
            stride=Pair(2, 1),
            padding=Padding(1, 0, 1, 1),
        )
    )
    random = np.random.default_rng(0)
    images = random.integers(dtype.minimum, dtype.maximum + 1, (3, 33, 7, 6)).astype(dtype.storage)
    images[0] = dtype.minimum
    assert_agrees(network.graph(), images, isas=[isa])


@given(data=st.data())
@pytest.mark.parametrize("isa", ISAS)
def test_any_window(isa: str, data: st.DataObject) -> None:
    """Values with and without padded channels, windows of all sizes, steps, paddings and dilations."""
    dtype = data.draw(st.sampled_from(sorted(ACTIVATIONS, key=str)))
    shape = (data.draw(st.integers(1, 70)), data.draw(st.integers(1, 14)), data.draw(st.integers(1, 14)))
    network = Network(dtype, shape)
    source = copied(network, dtype) if data.draw(st.booleans(), label="padded channels") else "image"
    extents = st.integers(1, 13)
    kernel = Pair(data.draw(extents), data.draw(extents))
    stride = Pair(data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4)))
    padding = Padding(*(data.draw(st.integers(0, 6)) for _ in range(4)))
    shared = {"name": "pool", "inputs": (source,), "input_type": dtype, "kernel_size": kernel, "stride": stride}
    try:
        if data.draw(st.booleans(), label="average"):
            counts = data.draw(st.booleans(), label="padding counts")
            network.add(AvgPool2d(**shared, padding=padding, count_include_pad=counts))
        else:
            dilation = Pair(data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3)))
            network.add(MaxPool2d(**shared, padding=padding, dilation=dilation))
    except GraphError:
        assume(False)
    images = np.random.default_rng(1).integers(dtype.minimum, dtype.maximum + 1, (3, *shape)).astype(dtype.storage)
    images[0] = data.draw(st.sampled_from([dtype.minimum, dtype.maximum]))
    assert_agrees(network.graph(), images, isas=[isa])
