"""Moves of single channels, on every instruction set: by shuffles where pixels are padded, one by one elsewhere."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from agreement import ISAS, assert_agrees
from hypothesis import given
from networks import Network, copied

from nybble.graph import DepthToSpace, DType, Node, Pair, PickChannels
from nybble.graph.types import ACTIVATIONS
from row_record import compared_kernel

BLOCKS = (Pair(2, 2), Pair(1, 4), Pair(2, 1))


def drawn_move(data: st.DataObject, source: str, dtype: DType, channels: int) -> Node:
    """Channels in any order, also several times; or blocks of pixels of interleaved channels."""
    if channels % 4 == 0 and data.draw(st.booleans(), label="blocks"):
        return DepthToSpace(name="move", inputs=(source,), input_type=dtype, block=data.draw(st.sampled_from(BLOCKS)))
    random = np.random.default_rng(data.draw(st.integers(0, 1000)))
    count = data.draw(st.integers(1, 100), label="channels of the result")
    picked = tuple(map(int, random.integers(0, channels, count)))
    return PickChannels(name="move", inputs=(source,), input_type=dtype, channels=picked)


@given(data=st.data())
@pytest.mark.parametrize("isa", ISAS)
def test_moves_of_channels(isa: str, data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(sorted(ACTIVATIONS, key=str)))
    channels = data.draw(st.one_of(st.integers(1, 140), st.sampled_from([4, 12, 48, 64])))
    network = Network(dtype, (channels, 3, 4))
    source = copied(network, dtype)
    network.add(drawn_move(data, source, dtype, channels))
    random = np.random.default_rng(0)
    images = random.integers(dtype.minimum, dtype.maximum + 1, (3, channels, 3, 4)).astype(dtype.storage)
    assert_agrees(network.graph(), images, isas=[isa])
    if isa != "scalar":
        compared_kernel(isa, "move")
