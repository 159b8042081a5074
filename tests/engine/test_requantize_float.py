"""The proof behind the fast epilogues: in float32, or double precision, every requantization they may take is exact.

A sum can be any integer, so each is given as a bias to a convolution that adds nothing. What floating point gets right
for sums close to every tie and on a random sample it gets right between them: each of its steps is monotonic.
"""

from __future__ import annotations

import numpy as np
import pytest
from agreement import assert_agrees
from kernels import always, forced
from networks import Network, copied

from nybble.graph import Conv2d, DType, Graph, Tensor
from nybble.graph.types import Array

#: The largest shift with ``output_bits + shift <= 24``, the next, where float32 would fail, and some that are common;
#: from there on double precision.
CASES = [
    (target, shift)
    for target in (DType.U4, DType.U7, DType.U8, DType.S4, DType.S8)
    for shift in sorted({0, 1, 8, 16, 24 - target.magnitude_bits, 25 - target.magnitude_bits, 26, 31})
]


def widest(shift: int) -> int:
    """Bits of factors: large shifts come with large factors."""
    return 16 if shift <= 20 else 30


def graph_of(sums: Array, target: DType, factors: Array, shift: int) -> Graph:
    network = Network(DType.U4, (1, 1, 1))
    source = copied(network, DType.U4)
    weight = Tensor.from_array(DType.S4, np.zeros((len(sums), 1, 1, 1), np.int64))
    bias = Tensor.from_array(DType.S32, sums)
    network.add(Conv2d(name="conv", inputs=(source,), input_type=DType.U4, weight=weight, bias=bias))
    kind = DType.U16 if factors.max() <= DType.U16.maximum else DType.U32
    network.requantize("quantize", "conv", target, factors, shift, kind)
    return network.graph()


@pytest.mark.parametrize(("target", "shift"), CASES)
def test_sums_beside_every_tie(target: DType, shift: int) -> None:
    """Of each output value, the sums on either side of the tie above it, for factors of every size."""
    outputs = np.arange(target.minimum - 2, target.maximum + 3)
    random = np.random.default_rng(shift)
    factors = np.unique(
        np.concatenate([[1, 2, 3, 5, 2**15, 2**16 - 1], (2 ** random.uniform(0, widest(shift), 20)).astype(np.int64)])
    )
    outputs, factors = (axis.reshape(-1) for axis in np.meshgrid(outputs, factors))
    exact = ((2 * outputs + 1) << shift) // (2 * factors)
    sums = (exact[:, None] + np.arange(-1, 3)).reshape(-1)
    check(sums, target, np.repeat(factors, 4), shift)


@pytest.mark.parametrize(("target", "shift"), CASES)
def test_random_sums(target: DType, shift: int) -> None:
    random = np.random.default_rng(shift + 100)
    count = 4000
    factors = (2 ** random.uniform(0, widest(shift), count)).astype(np.int64)
    wanted = random.uniform(1.2 * target.minimum - 2, 1.2 * target.maximum + 2, count)
    sums = np.rint(wanted * 2.0**shift / factors).astype(np.int64)
    sums[::7] = random.integers(-(2**31) + 1, 2**31 - 1, len(sums[::7]))
    check(sums, target, factors, shift)


def check(sums: Array, target: DType, factors: Array, shift: int) -> None:
    sums = np.clip(sums, -(2**31) + 1, 2**31 - 1)
    # Channels are limited, and so is what a test may take.
    for part in np.array_split(np.arange(len(sums)), -(-len(sums) // 20_000)):
        graph = graph_of(sums[part], target, factors[part], shift)
        for method in ("sparse", "wide"):
            with forced(always(method)):
                assert_agrees(graph, np.zeros((1, 1, 1, 1), np.uint8))
