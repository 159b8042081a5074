"""Requantizing in float32 with a guard: ties, values close to them, and values just outside what is in doubt.

Every value is a bias, so that it can be anything, and perhaps a shortcut. In some groups of 32 channels, which the
engine finishes together, every value lies beside a tie, in some one does, in some none: one value in doubt must not
hide what float32 makes of the others.
"""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from agreement import assert_agrees
from hypothesis import given
from kernels import always, forced
from networks import SEEDS, Network, copied

from nybble.graph import Add, Conv2d, DType, Graph, ReLU, Tensor
from nybble.graph.types import ACTIVATIONS, Array
from nybble.reference import interpret

GROUP = 32
#: Steps from a tie at most: none, closer than float32 can tell, about a unit of the guard, some of them, any.
DISTANCES = (0.0, 2.0**-20, 2.0**-13, 2.0**-11, 0.5)
LARGEST = 2**31 - 1


@st.composite
def guarded_networks(draw: st.DrawFn, grouped: bool) -> tuple[Graph, Array]:
    """A convolution that adds nothing to its biases, a shortcut perhaps, ReLU perhaps, and what they are scaled by."""
    random = np.random.default_rng(draw(SEEDS))
    target = draw(st.sampled_from(ACTIVATIONS))
    # From the first shift for which float32 is too short; before it, one large factor makes it so.
    shift = draw(st.one_of(st.integers(25 - target.magnitude_bits, 31), st.integers(0, 31)))
    channels = GROUP * draw(st.integers(1, 6)) - draw(st.integers(0, 5))
    values, factors = values_beside_ties(random, target, shift, channels)
    factors[-1] = max(factors[-1], draw(st.sampled_from((0, 2**24 + 1, 2**32 - 1))))
    kind = draw(st.sampled_from((None, None, DType.U4, DType.U8, DType.S8)))
    network = Network(kind or DType.U4, (channels, 1, 1))
    source = copied(network, kind or DType.U4)
    images = random.integers(network.entry.dtype.minimum, network.entry.dtype.maximum, (3, channels, 1, 1))
    if kind is not None:
        # With products of 32 bits and more, which lanes multiply in two parts, or not at all.
        rescale_shift = draw(st.integers(0, 31))
        most = draw(st.sampled_from((1, 300, 2**16, 2**24, 2**32 - 1)))
        rescale = random.integers(0, min(most, 2 ** (22 + rescale_shift)), channels, endpoint=True)
        network.requantize("rescale", source, DType.S32, rescale, rescale_shift, DType.U32)
        shortcut = Graph([network.entry], network.nodes, ["rescale"])
        values = values - first_image(shortcut, images)
    bound = LARGEST - (network.values["rescale"].magnitude if kind is not None else 0)
    sums = network.add(
        Conv2d(
            name="conv",
            inputs=(source,),
            input_type=network.values[source].dtype,
            weight=Tensor.from_array(DType.S4, np.zeros((channels, 1 if grouped else channels, 1, 1), np.int64)),
            bias=Tensor.from_array(DType.S32, np.clip(values, -bound, bound)),
            groups=channels if grouped else 1,
        )
    )
    if kind is not None:
        sums = network.add(Add(name="add", inputs=("rescale", sums)))
    if draw(st.booleans()):
        maximum = draw(st.sampled_from((None, None, 2**20)))
        sums = network.add(ReLU(name="relu", inputs=(sums,), maximum=maximum))
    network.requantize("quantize", sums, target, factors, shift, DType.U32)
    return network.graph(), images.astype(network.entry.dtype.storage)


def first_image(graph: Graph, images: Array) -> Array:
    result: Array = interpret(graph, images[:1].astype(graph.inputs[0].dtype.storage))["rescale"]
    return result.reshape(-1).astype(np.int64)


def values_beside_ties(random: np.random.Generator, target: DType, shift: int, channels: int) -> tuple[Array, Array]:
    """Values and factors, of each group with other distances from ties, which all its channels have or one."""
    groups = -(-channels // GROUP)
    distances = np.repeat(random.choice(DISTANCES, groups), GROUP)[:channels]
    is_alone = np.repeat(random.random(groups) < 0.5, GROUP)[:channels]
    chosen = np.repeat(random.integers(GROUP, size=groups), GROUP)[:channels]
    distances[is_alone & (np.arange(channels) % GROUP != chosen)] = 0.5
    pairs = [value_beside_tie(random, target, shift, distance) for distance in distances.tolist()]
    values, factors = (np.array(column, np.int64) for column in zip(*pairs, strict=True))
    return np.clip(values, -LARGEST, LARGEST), np.clip(factors, 0, 2**32 - 1)


def value_beside_tie(random: np.random.Generator, target: DType, shift: int, distance: float) -> tuple[int, int]:
    """A value and a factor, of any size, whose product lies up to so many steps from a tie if integers allow it."""
    steps = int(random.integers(target.minimum - 3, target.maximum + 3))
    is_even = random.random() < 0.5
    if distance == 0 and shift > 0:
        twos = int(random.integers(shift))
        tie, rest = (2 * steps + 1) << twos, 1 << (shift - 1 - twos)
        return (tie, rest) if is_even else (rest * (1 if steps >= 0 else -1), abs(tie))
    product = (steps + 0.5 + random.uniform(-distance, distance)) * 2.0**shift
    # The larger of the two is given, so that the other comes close.
    size = 2.0 ** random.uniform(0, max(1.0, shift - 17))
    if is_even:
        return round(product / max(1, round(size))), max(1, round(size))
    value = round(size) * (1 if product >= 0 else -1)
    return value, round(product / value)


@pytest.mark.parametrize("method", ["depthwise", "grouped", "pair", "quad", "sparse", "wide"])
@given(data=st.data())
def test_ties_and_what_lies_beside_them(method: str, data: st.DataObject) -> None:
    graph, images = data.draw(guarded_networks(method in ("depthwise", "grouped")))
    with forced(always(method)):
        assert_agrees(graph, images)
