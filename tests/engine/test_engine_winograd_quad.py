"""Winograd by dot products: any size and padding, transformed operands at the bounds of bytes, 32-bit sums."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from agreement import ISAS, assert_agrees
from hypothesis import given
from kernels import always, forced
from networks import Network, conv_networks, copied, images
from processors import PROCESSORS, pretend

from nybble.backends.cpu.choices import candidates, convolutions
from nybble.backends.cpu.kernel import choose_kernel
from nybble.backends.cpu.rows import layer, rows
from nybble.graph import Conv2d, DType, Graph, Padding, Tensor
from nybble.graph.types import ACTIVATIONS, Array
from strategies import STYLES, values_of

METHODS = ("winograd_quad", "winograd_inner")
EVERY_METHOD = pytest.mark.parametrize("method", METHODS)
#: Those whose transformed values fit bytes with weights of s4.
TYPES = (DType.U4, DType.S4)
EVERY_TYPE = pytest.mark.parametrize("dtype", TYPES, ids=str)
#: The largest weight of each: nine times that fits a byte, with the transformed input it is added to, up to 30.
MOST_WEIGHTS = {"winograd_quad": 14, "winograd_inner": 10}


def isas_of(method: str) -> list[str]:
    return [isa for isa in ISAS if method in rows(isa)]


def conv(
    weight: Array, dtype: DType, size: tuple[int, int], padding: Padding | None = None, kind: DType = DType.S4
) -> Graph:
    """A 3x3 convolution of a stored value, its sums as they are."""
    network = Network(dtype, (weight.shape[1], *size))
    source = copied(network, dtype)
    network.add(
        Conv2d(
            name="conv",
            inputs=(source,),
            input_type=dtype,
            weight=Tensor.from_array(kind, weight),
            padding=padding or Padding(),
        )
    )
    return network.graph()


def check(method: str, graph: Graph, batch: Array, **cuts: int) -> None:
    dtype = graph.inputs[0].dtype
    with forced(always(method, **cuts)):
        assert_agrees(graph, batch.astype(dtype.storage), [1, 2], isas=isas_of(method))


@EVERY_METHOD
@given(st.data(), st.sampled_from((1, 2, 3)), st.sampled_from((1, 2, 8)))
def test_any_layer(method: str, data: st.DataObject, threads: int, together: int) -> None:
    """With any epilogue: shortcut, ReLU and requantize, in 32 bits or 64."""
    graph = data.draw(conv_networks(winograd=True, types=TYPES))
    with forced(always(method, tile_pixels=data.draw(st.integers(1, 64)))):
        assert_agrees(graph, data.draw(images(graph)), [threads], isas=isas_of(method), together=together)


@EVERY_METHOD
@pytest.mark.parametrize("padding", [(0, 0, 0, 0), (1, 1, 1, 1), (1, 0, 0, 2), (5, 4, 3, 6)])
def test_every_size_of_image(method: str, padding: tuple[int, int, int, int]) -> None:
    top, left, bottom, right = padding
    weight = values_of(DType.S4, (35, 33, 3, 3), "random", 1)
    for height in range(1, 6):
        for width in range(1, 6):
            if height + top + bottom >= 3 and width + left + right >= 3:
                dtype = TYPES[(height + width) % 2]
                batch = values_of(dtype, (3, 33, height, width), "random", 2)
                check(method, conv(weight, dtype, (height, width), Padding(*padding)), batch, tile_pixels=height)


@EVERY_METHOD
@pytest.mark.parametrize("tile", [1, 8, 9, 16, 24, 64])
@pytest.mark.parametrize("size", [(2, 2), (3, 6), (5, 9), (7, 14), (15, 5)])
def test_every_count_of_squares_that_is_left_over(method: str, size: tuple[int, int], tile: int) -> None:
    weight = values_of(DType.S4, (64, 40, 3, 3), "random", 1)
    graph = conv(weight, DType.U4, size, Padding(1, 1, 1, 1))
    check(method, graph, values_of(DType.U4, (9, 40, *size), "random", tile), tile_pixels=tile)


@EVERY_METHOD
@pytest.mark.parametrize("outputs", [1, 31, 32, 33, 65, 129])
def test_every_number_of_outputs(method: str, outputs: int) -> None:
    weight = values_of(DType.S4, (outputs, 37, 3, 3), "random", outputs)
    batch = values_of(DType.S4, (9, 37, 9, 7), "random", outputs)
    check(method, conv(weight, DType.S4, (9, 7), Padding(1, 1, 1, 1)), batch)


@EVERY_METHOD
@EVERY_TYPE
@pytest.mark.parametrize("inputs", ["highest", "extreme", "lowest"])
@pytest.mark.parametrize("weights", STYLES)
@pytest.mark.parametrize("channels", [1, 65, 300])
def test_styles(method: str, dtype: DType, channels: int, weights: str, inputs: str) -> None:
    """Channels whose partner is there for alignment alone, or is in the other half of a chunk."""
    weight = values_of(DType.S4, (40, channels, 3, 3), weights, 3)
    batch = values_of(dtype, (2, channels, 5, 6), inputs, 4)
    check(method, conv(weight, dtype, (5, 6), Padding(1, 1, 1, 1)), batch)


def transforms_at_their_ends(dtype: DType) -> Array:
    """4x4 inputs that are largest or least where a position of B'dB adds, and the other where it subtracts."""
    ends = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]])
    found = []
    for row in ends:
        for column in ends:
            signs = np.multiply.outer(row, column)
            found += [np.where(signs > 0, dtype.maximum, dtype.minimum), np.where(signs < 0, dtype.maximum, 0)]
            found += [np.where(signs < 0, dtype.maximum, dtype.minimum), np.where(signs > 0, dtype.minimum, 0)]
    return np.array(found)


@EVERY_METHOD
@EVERY_TYPE
@pytest.mark.parametrize("channels", [32, 40])
def test_operands_at_the_bounds_of_bytes(method: str, dtype: DType, channels: int) -> None:
    """Every transformed input at both its ends by every transformed weight at both its own, up to the largest.

    The sums of a pair have all four combinations of the ends, since signs change within the halves of 32 channels.
    """
    most = MOST_WEIGHTS[method]
    channel = np.arange(channels)
    patterns = np.array(
        [np.ones(channels), -np.ones(channels), np.where(channel % 2, 1, -1), np.where(channel % 32 < 16, 1, -1)]
    )
    taps = np.array([np.ones((3, 3)), np.fromfunction(lambda r, c: 1 - 2 * ((r + c) % 2), (3, 3))])
    weight = (most * patterns[:, None, :, None, None] * taps[None, :, None]).reshape(8, channels, 3, 3).astype(int)
    tiles = transforms_at_their_ends(dtype)
    other = np.roll(tiles, 2, axis=0)
    halves = (channel % 32 < 16)[None, :, None, None]
    batch = np.concatenate(
        [
            np.where(halves, tiles[:, None], other[:, None]),
            np.where(channel[None, :, None, None] % 2, tiles[:, None], other[:, None]),
        ]
    )
    graph = conv(weight, dtype, (4, 4), kind=DType.S8)
    check(method, graph, batch)
    (step,) = convolutions(graph).values()
    for isa in isas_of(method):
        assert rows(isa)[method].why_not(layer(step, most)) is None
        assert f"weights of at most {most}" in str(rows(isa)[method].why_not(layer(step, most + 1)))


@pytest.mark.parametrize("dtype", ACTIVATIONS, ids=str)
def test_the_tuner_may_try_them(dtype: DType) -> None:
    for kind in (DType.S4, DType.S8):
        graph = conv(values_of(kind, (64, 64, 3, 3), "random", 1), dtype, (8, 8), kind=kind)
        (step,) = convolutions(graph).values()
        for method in METHODS:
            for isa in isas_of(method):
                tried = {kernel.method for kernel in candidates(step, isa)}
                assert (method in tried) == (dtype in TYPES and kind is DType.S4)


@pytest.mark.parametrize("processor", PROCESSORS)
def test_who_gets_them_by_default(processor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers of 32 channels and more on images that are not tiny; without dot products, of signed inputs alone.

    On AMD's processors with vectors of 64 bytes, by the fast inner product; on Zen 5 from 65 channels on.
    """
    pretend(processor, monkeypatch)
    weight = np.ones((40, 64, 3, 3), np.int64)
    for isa in isas_of("winograd_quad"):
        has_dot_products = rows(isa)["quad"].has_dot_products
        has_sums = isa == "avx512vnni" and processor != "intel"
        # NEON's dot products: lists lose everywhere. Without them NEON multiplies single channels.
        is_neon = rows(isa)["quad"].has_signed_quads
        has_no_lists = has_dot_products and is_neon
        has_quads = has_dot_products or not is_neon
        for graph, wanted in (
            (conv(weight, DType.S4, (8, 8)), has_quads),
            (conv(np.ones((1, 288, 3, 3), np.int64), DType.S4, (8, 8)), has_quads),
            (conv(weight, DType.U4, (8, 8)), has_dot_products),
            (conv(np.ones((1, 288, 3, 3), np.int64), DType.U4, (8, 8)), has_no_lists),
            (conv(weight, DType.S4, (7, 7)), has_no_lists),
            (conv(weight[:, :31], DType.S4, (8, 8)), False),
            # By type: small weights of a wide one run as any others of it.
            (conv(weight, DType.S4, (8, 8), kind=DType.S8), False),
        ):
            (step,) = convolutions(graph).values()
            method = choose_kernel(step, isa).method
            is_inner = has_sums and (processor == "zen4" or step.input.shape[0] > 64)
            usual = "winograd_inner" if is_inner else "winograd_quad"
            assert (method == usual) is wanted
            assert method == usual or method not in METHODS
