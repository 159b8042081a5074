"""Pools of every instruction set, small and in every type: what the drawn networks do at length."""

from __future__ import annotations

import numpy as np
import pytest
from agreement import ISAS, assert_agrees
from networks import Network, copied

from nybble.graph import AvgPool2d, DType, MaxPool2d, Padding, Pair
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
