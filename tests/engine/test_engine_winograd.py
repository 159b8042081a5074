"""The Winograd method: any size and padding, and sums at the bounds of its segments."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from agreement import ISAS, assert_agrees
from hypothesis import given
from kernels import always, forced
from networks import Network, conv_networks, copied, images

from nybble.backends.cpu.choices import convolutions
from nybble.backends.cpu.kernel import Kernel, choose_kernel
from nybble.backends.cpu.rows import rows as rows_of
from nybble.engine import Engine
from nybble.graph import Conv2d, DType, Graph, Padding, Tensor
from nybble.graph.types import Array
from nybble.reference import interpret
from strategies import STYLES, values_of

VECTOR_ISAS = [isa for isa in ISAS if isa != "scalar"]
#: Four times an output of a segment must fit 16 bits, and an output at most 8,191: 546 weights of 1 by inputs of 15.
MOST_WEIGHT = 8191 // 15


def conv(weight: Array, size: tuple[int, int], padding: Padding | None = None, kind: DType = DType.S4) -> Graph:
    """A 3x3 convolution of a stored u4 value, its sums as they are."""
    network = Network(DType.U4, (weight.shape[1], *size))
    source = copied(network, DType.U4)
    network.add(
        Conv2d(
            name="conv",
            inputs=(source,),
            input_type=DType.U4,
            weight=Tensor.from_array(kind, weight),
            padding=padding or Padding(),
        )
    )
    return network.graph()


def check(graph: Graph, batch: Array, **cuts: int) -> None:
    with forced(always("winograd", **cuts)):
        assert_agrees(graph, batch.astype(np.uint8), [1, 2], isas=VECTOR_ISAS)


@given(st.data(), st.sampled_from((1, 2, 3)), st.sampled_from((1, 2, 8)))
def test_any_layer(data: st.DataObject, threads: int, together: int) -> None:
    """With any epilogue: shortcut, ReLU and requantize, in 16 bits, 32 or 64."""
    graph = data.draw(conv_networks(winograd=True))
    cuts = {
        "block_outputs": data.draw(st.sampled_from((32, 64, 96, 128))),
        "tile_pixels": data.draw(st.integers(1, 64)),
    }
    with forced(always("winograd", **cuts)):
        assert_agrees(graph, data.draw(images(graph)), [threads], isas=VECTOR_ISAS, together=together)


@pytest.mark.parametrize(
    "padding", [(0, 0, 0, 0), (1, 1, 1, 1), (0, 0, 1, 1), (1, 0, 0, 2), (0, 3, 2, 0), (5, 4, 3, 6)]
)
def test_every_size_of_image(padding: tuple[int, int, int, int]) -> None:
    top, left, bottom, right = padding
    weight = values_of(DType.S4, (35, 33, 3, 3), "random", 1)
    for rows in range(1, 6):
        for columns in range(1, 6):
            if rows + top + bottom >= 3 and columns + left + right >= 3:
                batch = values_of(DType.U4, (3, 33, rows, columns), "random", 2)
                check(conv(weight, (rows, columns), Padding(*padding)), batch, tile_pixels=rows)


@pytest.mark.parametrize("outputs", [1, 31, 32, 33, 64, 65, 96, 128, 129, 200])
@pytest.mark.parametrize("block", [32, 64, 96, 128])
def test_every_block_of_outputs(block: int, outputs: int) -> None:
    weight = values_of(DType.S4, (outputs, 37, 3, 3), "random", outputs)
    batch = values_of(DType.U4, (9, 37, 9, 7), "random", block)
    check(conv(weight, (9, 7), Padding(1, 1, 1, 1)), batch, block_outputs=block, tile_pixels=13)


@pytest.mark.parametrize("inputs", ["highest", "extreme", "lowest", "random"])
@pytest.mark.parametrize("weights", STYLES)
@pytest.mark.parametrize("channels", [1, 30, 65, 513])
def test_styles(channels: int, weights: str, inputs: str) -> None:
    """Of 65 channels and more, weights of one sign pass 16 bits."""
    weight = values_of(DType.S4, (40, channels, 3, 3), weights, 3)
    check(conv(weight, (5, 6), Padding(1, 1, 1, 1)), values_of(DType.U4, (2, channels, 5, 6), inputs, 4))


@pytest.mark.parametrize("channels", [64, 128, 300, 600])
def test_inputs_that_reach_the_bounds_of_every_output(channels: int) -> None:
    """For each output, inputs that are largest where its weights are positive, and where they are negative."""
    weight = values_of(DType.S4, (33, channels, 3, 3), "random", channels)
    positive = np.where(weight > 0, 15, 0)
    negative = np.where(weight < 0, 15, 0)
    graph = conv(weight, (3, 3))
    batch = np.concatenate([positive, negative])
    sums = interpret(graph, batch.astype(np.uint8), keep=None)["conv"][:, :, 0, 0]
    np.testing.assert_array_equal(np.diagonal(sums), 15 * np.where(weight > 0, weight, 0).sum((1, 2, 3)))
    check(graph, batch)


@pytest.mark.parametrize("period", [1, 2, 3, 5])
def test_signs_by_channel_reach_the_bounds_in_the_whole_square(period: int) -> None:
    signs = np.where(np.arange(150) // period % 2, 7, -8)
    weight = np.broadcast_to(signs[None, :, None, None], (3, 150, 3, 3)).copy()
    weight[1] = 8 * (weight[1] > 0) - 8
    weight[2] = 7 * (weight[2] > 0)
    shape = (1, 150, 4, 5)
    by_channel = signs[None, :, None, None]
    batch = np.concatenate(
        [np.broadcast_to(15 * chosen, shape) for chosen in (by_channel > 0, by_channel < 0, by_channel == by_channel)]
    )
    check(conv(weight, (4, 5)), batch)


@pytest.mark.parametrize("unit", [1, -1, 7, -8])
@pytest.mark.parametrize("size", [3, 4, 6])
@pytest.mark.parametrize("total", [MOST_WEIGHT - 1, MOST_WEIGHT, MOST_WEIGHT + 1, 4 * MOST_WEIGHT, 4 * MOST_WEIGHT + 1])
def test_totals_around_the_ends_of_segments(total: int, size: int, unit: int) -> None:
    """Weights of one size up to just below and just above what a segment may hold; then what 16 bits may."""
    count = -(-total // abs(unit))
    channels = -(-count // 9)
    weight = np.zeros(9 * channels, np.int64)
    weight[:count] = unit
    weight[count - 1] = (1 if unit > 0 else -1) * (total - (count - 1) * abs(unit))
    assert abs(weight.sum()) == total
    # Of one sign alone: another output's would end the segment earlier.
    both = np.stack([weight, weight[::-1]]).reshape(2, channels, 3, 3)
    check(conv(both, (size, size), Padding(0, 0, 1, 1)), np.full((2, channels, size, size), 15))


@pytest.mark.parametrize("kind", [DType.S4, DType.S8])
def test_weights_of_eight(kind: DType) -> None:
    """Both signs of the largest weight, where the type has them, and the transformed extremes of 72."""
    signs = np.array([[1, -1, 1], [-1, 1, -1], [1, -1, 1]])
    taps = np.stack([np.ones((3, 3), np.int64), -np.ones((3, 3), np.int64), signs, -signs])
    weight = np.repeat(np.clip(8 * taps, -8, min(8, kind.maximum))[:, None], 40, axis=1)
    checkers = np.indices((6, 6)).sum(0) % 2
    patterns = [checkers, 1 - checkers, np.ones((6, 6)), np.zeros((6, 6))]
    batch = np.stack([np.broadcast_to(15 * pattern, (40, 6, 6)) for pattern in patterns])
    check(conv(weight, (6, 6), Padding(1, 1, 1, 1), kind), batch)


def test_who_gets_it_by_default() -> None:
    """Layers of 32 to 256 channels on images that are not tiny; by dot products where there are any."""
    weight = np.ones((40, 64, 3, 3), np.int64)
    for isa in VECTOR_ISAS:
        by_dots = ("winograd_quad", "winograd_inner")
        names = by_dots if rows_of(isa)["quad"].has_dot_products else ("winograd",)
        for graph, wanted in (
            (conv(weight, (8, 8)), True),
            (conv(weight, (7, 7)), False),
            (conv(weight[:, :31], (8, 8)), False),
            (conv(np.ones((1, 288, 3, 3), np.int64), (8, 8)), False),
            # By type: small weights of a wide one run as any others of it.
            (conv(weight, (8, 8), kind=DType.S8), False),
        ):
            with Engine(graph, isa=isa, tuned=False) as engine:
                method = engine.plan.kernels["conv"].method
                assert method in names if wanted else not method.startswith("winograd")


def test_the_portable_kernels_lack_it() -> None:
    graph = conv(np.ones((40, 64, 3, 3), np.int64), (8, 8))
    (step,) = convolutions(graph).values()
    assert choose_kernel(step, "scalar") == Kernel("direct")
