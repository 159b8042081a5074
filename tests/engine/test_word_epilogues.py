"""Epilogues in 16-bit lanes: sums, biases, factors and shortcuts at and beyond the ends of what those lanes hold.

The engine decides for each group of 32 channels whether 16 bits are exact: sums that are there from the start, or sums
of 32 bits that are saturated to them. Here whole groups lie just inside or just
outside each of its conditions.
"""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
from agreement import ISAS, assert_agrees
from hypothesis import given
from kernels import always, forced
from networks import SEEDS, Network, copied

from nybble.backends.cpu.rows import rows
from nybble.graph import Add, Conv2d, DType, Graph, Padding, Quantize, ReLU, Tensor
from nybble.graph.types import Array

GROUP = 32
SATURATED = ("quad", "wide", "inner", "winograd_quad", "winograd_inner")
TARGETS = (DType.U4, DType.U4, DType.U7, DType.U8, DType.S4, DType.S8)


@st.composite
def word_networks(draw: st.DrawFn) -> tuple[Graph, Array]:
    """A convolution whose sums come close to 16 bits, with every epilogue, and images for it."""
    random = np.random.default_rng(draw(SEEDS))
    window = draw(st.sampled_from((1, 1, 3)))
    # Pointwise layers of 16, 24, 32 and 40 inputs have a loop of their own (few.inc.h).
    inputs = draw(st.sampled_from((2, 15, 23, 31, 39, 64, 136, 273))) // window + 1
    outputs = GROUP * draw(st.integers(1, 4)) - draw(st.integers(0, 3))
    network = Network(DType.U4, (inputs, 2, 2))
    source = copied(network, DType.U4)
    sums = network.add(
        convolution(
            network, "conv", source, outputs, random, draw(st.sampled_from((1, 32, 2**15, 2**15, 2**17))), window
        )
    )
    shortcut = draw(st.sampled_from(("none", "none", "unsigned", "signed")))
    if shortcut != "none":
        other = network.add(convolution(network, "other", source, outputs, random, 100))
        kind = DType.U4 if shortcut == "unsigned" else DType.S8
        spread = kind.maximum * 2**16 / max(1, network.values[other].magnitude)
        other = network.requantize("narrow", other, kind, max(1, min(int(8 * spread), 2**16 - 1)), 16)
        edges = (0, 1, 255, 512, 4368, 4369, 4370, 8738, 32767, 32768, 2**16 - 1, 2**16 + 3)
        factors = by_group(random, outputs, edges)
        shift = draw(st.sampled_from((0, 1, 1, 2, 4, 10, 16)))
        other = network.requantize("rescale", other, DType.S32, factors, shift, DType.U32)
        sums = network.add(Add(name="add", inputs=(sums, other)))
    if draw(st.integers(0, 3)):
        maximum = draw(st.sampled_from((None, None, None, 0, 100, 2**15 - 1, 2**15)))
        sums = network.add(ReLU(name="relu", inputs=(sums,), maximum=maximum))
    target = draw(st.sampled_from(TARGETS))
    shift = draw(st.sampled_from((0, 8, 15, 16, 16, 16, 17, 18, 20, 24, 31)))
    network.add(
        Quantize(
            name="quantize",
            inputs=(sums,),
            input_type=network.values[sums].dtype,
            output_type=target,
            factor=Tensor.from_array(DType.U32, result_factors(random, outputs, target, shift)),
            shift=shift,
        )
    )
    images = random.integers(0, 15, (9, inputs, 2, 2), endpoint=True) * (random.random((9, 1, 2, 2)) < 0.8)
    images[0], images[1] = 15, 0
    return network.graph(), images.astype(np.uint8)


def convolution(
    network: Network, name: str, source: str, outputs: int, random: np.random.Generator, bias: int, window: int = 1
) -> Conv2d:
    """Weights of one sign in most outputs, so that sums reach their bounds; biases up to so much, or at its edges."""
    inputs = network.values[source].shape[0]
    weight = random.integers(-8, 7, (outputs, inputs, window, window), endpoint=True)
    sign = by_group(random, outputs, (-1, 0, 1))[:, None, None, None]
    weight = np.where(sign == 0, weight, np.where(sign < 0, -np.abs(weight), np.minimum(np.abs(weight), 7)))
    edge = by_group(random, outputs, (-bias, 0, min(bias, 2**15 - 1)))
    biases = np.where(random.random(outputs) < 0.6, edge, random.integers(-bias, bias, outputs))
    # Beyond 16 bits now and then, which its whole group notices.
    biases[random.random(outputs) < 0.002] = 2**15
    return Conv2d(
        name=name,
        inputs=(source,),
        input_type=DType.U4,
        weight=Tensor.from_array(DType.S4, weight),
        bias=Tensor.from_array(DType.S32, biases),
        padding=Padding(*[window // 2] * 4),
    )


def by_group(random: np.random.Generator, outputs: int, choices: tuple[int, ...]) -> Array:
    """One of the choices for each group of channels, and now and then another for a channel."""
    groups = random.choice(choices, -(-outputs // GROUP))
    single = random.random(outputs) < 0.01
    result: Array = np.where(single, random.choice(choices, outputs), np.repeat(groups, GROUP)[:outputs])
    return result


def result_factors(random: np.random.Generator, outputs: int, target: DType, shift: int) -> Array:
    """Such that the largest result is reached at a sum of 2**15, or far below or above, or at the ends of a factor.

    Factors of 16 bits end at half a step for a unit of the sum, those of 32 at one step, two, four and eight, by how
    often values are doubled.
    """
    reached = target.maximum * 2.0 ** (shift - 15)
    edge = random.choice(((2**16 - 1) >> max(0, 17 - shift), *(2 ** (shift + n) for n in range(5))))
    scale = by_group(random, outputs, (0, 1, 2, 4, 64))
    factors = np.where(scale == 0, edge + by_group(random, outputs, (-1, 0, 1)), scale * reached / 2)
    spread = np.where((scale == 0) & (random.random(outputs) < 0.5), 1.0, random.uniform(0.9, 1.1, outputs))
    return np.clip(np.rint(factors * spread), 0, 2**32 - 1).astype(np.int64)


@given(word_networks())
def test_sixteen_bit_epilogues(drawn: tuple[Graph, Array]) -> None:
    graph, images = drawn
    # The others have sums of 32 bits, which they saturate with their bias. Where a method cannot run the layer, the
    # direct one does.
    for method in ("sparse", "sparse_single", *SATURATED):
        with forced(always(method, block_outputs=64)):
            assert_agrees(graph, images, isas=[isa for isa in ISAS if method in rows(isa)])
