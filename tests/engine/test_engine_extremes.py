"""Sums and requantization at the bounds of their types."""

from __future__ import annotations

import numpy as np
import pytest
from agreement import assert_agrees
from kernels import METHODS, always, forced
from networks import Network, copied

from nybble.graph import Add, Conv2d, DType, Graph, Linear, Padding, Tensor
from nybble.graph.types import ACTIVATIONS, Array
from nybble.reference import interpret
from strategies import values_of

#: Largest and smallest 16-bit sum, the sums next to them, and those that only 17 bits hold.
EDGES = sorted(sign * (2**15 + step) for sign in (-1, 1) for step in (-2, -1, 0, 1))


def conv_graph(dtype: DType, weight: Array, bias: Array | None = None, kind: DType = DType.S4) -> Graph:
    """A convolution without padding of a stored value, its sums as they are."""
    _, inputs, rows, columns = weight.shape
    network = Network(dtype, (inputs, rows, columns))
    source = copied(network, dtype)
    network.add(
        Conv2d(
            name="conv",
            inputs=(source,),
            input_type=dtype,
            weight=Tensor.from_array(kind, weight),
            bias=None if bias is None else Tensor.from_array(DType.S32, bias),
        )
    )
    return network.graph()


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("target", EDGES)
def test_sums_at_the_edges_of_16_bits(target: int, method: str, kernel: int) -> None:
    """One product per channel adds up to exactly the target, from the left, from the right and interleaved."""
    weight = 7 if target > 0 else -8
    full, rest = divmod(abs(target), 15 * abs(weight))
    values = [15] * full + [rest // abs(weight)] + [1]
    weights = [weight] * (full + 1) + [(rest % abs(weight)) * (1 if target > 0 else -1)]
    count = -(-len(values) // kernel**2)
    padded = np.zeros((2, count * kernel**2), np.int64)
    padded[:, : len(values)] = values, weights
    order = np.random.default_rng(0).permutation(padded.shape[1])
    images = np.stack([padded[0], padded[0][::-1], padded[0][order]]).reshape(3, count, kernel, kernel)
    rows = np.stack([padded[1], padded[1][::-1], padded[1][order]]).reshape(3, count, kernel, kernel)
    graph = conv_graph(DType.U4, rows)
    assert list(np.diagonal(interpret(graph, images)["conv"][:, :, 0, 0])) == [target] * 3
    with forced(always(method)):
        assert_agrees(graph, images.astype(np.uint8))


@pytest.mark.parametrize("total", [2184, 2185, -2184, -2185, 4368, 4369])
@pytest.mark.parametrize("method", METHODS)
def test_weights_whose_worst_sum_just_fits_16_bits(method: str, total: int) -> None:
    """15 * 2,184 is the largest sum that needs no widening, 15 * 2,185 the smallest that does."""
    step = 7 if total > 0 else -8
    weights = [step] * (total // step) + ([total % step] if total % step else [])
    graph = conv_graph(DType.U4, np.array(weights).reshape(1, -1, 1, 1))
    assert interpret(graph, np.full((1, len(weights), 1, 1), 15))["conv"].item() == 15 * total
    with forced(always(method)):
        assert_agrees(graph, np.full((2, len(weights), 1, 1), 15, np.uint8))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", ACTIVATIONS)
@pytest.mark.parametrize("kind", [DType.S4, DType.S8])
def test_products_of_extremes(dtype: DType, kind: DType, method: str) -> None:
    """Largest and smallest inputs against largest and smallest weights, in all of a long window, and none."""
    shape = (4, 130, 3, 3)
    weight = np.empty(shape, np.int64)
    weight[0], weight[1] = kind.maximum, kind.minimum
    weight[2] = values_of(kind, shape[1:], "extreme", 1)
    weight[3] = 0
    images = np.stack(
        [np.full(shape[1:], extreme) for extreme in (dtype.maximum, dtype.minimum, 0)]
        + [values_of(dtype, shape[1:], style, 2) for style in ("extreme", "sparse")]
    ).astype(dtype.storage)
    with forced(always(method)):
        assert_agrees(conv_graph(dtype, weight, kind=kind), images)


@pytest.mark.parametrize("method", METHODS)
def test_pixels_of_zeros_among_others(method: str) -> None:
    """Lists may be empty in a pixel, in a block of one, or everywhere."""
    network = Network(DType.U4, (200, 5, 6))
    source = copied(network, DType.U4)
    weight = Tensor.from_array(DType.S4, values_of(DType.S4, (40, 200, 3, 3), "random", 1))
    padding = Padding(1, 1, 1, 1)
    network.add(Conv2d(name="conv", inputs=(source,), input_type=DType.U4, weight=weight, padding=padding))
    images = values_of(DType.U4, (6, 200, 5, 6), "random", 2)
    images[0] = 0
    images[1, :, ::2] = 0
    images[2, 64:128] = 0
    images[3, 1:] = 0
    images[4, :-1] = 0
    images[5, ::2] = 0
    with forced(always(method)):
        assert_agrees(network.graph(), images)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("sign", [1, -1])
def test_sums_at_the_edge_of_32_bits(method: str, sign: int) -> None:
    """The worst case is exactly 2**31 - 1, and the input reaches it."""
    weight = np.full((3, 50, 1, 1), 7 * sign)
    bias = np.full(3, sign * (2**31 - 1 - 15 * 7 * 50))
    graph = conv_graph(DType.U4, weight, bias)
    assert graph.values["conv"].magnitude == 2**31 - 1
    images = np.zeros((3, 50, 1, 1), np.uint8)
    images[0] = 15
    images[1, :25] = 15
    assert interpret(graph, images)["conv"][0, 0, 0, 0] == sign * (2**31 - 1)
    with forced(always(method)):
        assert_agrees(graph, images)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("target", ACTIVATIONS)
@pytest.mark.parametrize("bits", [24, 25])
def test_requantizing_on_both_sides_of_the_float_bound(method: str, target: DType, bits: int) -> None:
    """``output_bits + shift`` of 24 is the last that float32 may requantize; biases stand in for any sums."""
    shift = bits - target.magnitude_bits
    check_requantize(method, target, shift, DType.U16, np.random.default_rng(bits).integers(0, 2**16, 300))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("target", [*ACTIVATIONS, DType.S32, DType.U31])
@pytest.mark.parametrize("shift", [0, 1, 15, 31])
def test_largest_and_smallest_factors(method: str, target: DType, shift: int) -> None:
    wide = target in (DType.S32, DType.U31)
    largest = [(1 << shift) >> 1] if wide else [2**16 - 1, 2**24 - 1, 2**24, 2**24 + 1, 2**32 - 1]
    for factor in (0, 1, *largest):
        check_requantize(method, target, shift, DType.U32, np.full(300, min(factor, 2**32 - 1)))


def check_requantize(method: str, target: DType, shift: int, kind: DType, factors: Array) -> None:
    """Requantize sums around each tie and each end of the clamp, given as biases, by the factors."""
    random = np.random.default_rng(shift)
    wanted = random.integers(2 * target.minimum - 3, 2 * target.maximum + 4, len(factors))
    ties = ((2 * wanted + 1) << shift) // (2 * np.maximum(factors, 1).astype(object))
    limit = 2**31 - 1 - 15
    sums = np.clip((ties + random.integers(-1, 2, len(factors))), -limit, limit).astype(np.int64)
    sums[:6] = [0, 1, -1, limit, -limit, limit // 2]
    network = Network(DType.U4, (1, 1, 1))
    source = copied(network, DType.U4)
    weight = np.ones((len(factors), 1, 1, 1), np.int64)
    network.add(
        Conv2d(
            name="conv",
            inputs=(source,),
            input_type=DType.U4,
            weight=Tensor.from_array(DType.S4, weight),
            bias=Tensor.from_array(DType.S32, sums),
        )
    )
    network.requantize("quantize", "conv", target, factors, shift, kind)
    with forced(always(method)):
        assert_agrees(network.graph(), np.array([0, 1, 15], np.uint8).reshape(3, 1, 1, 1))


@pytest.mark.parametrize("target", ACTIVATIONS)
def test_exact_halves_go_away_from_zero(target: DType) -> None:
    """Every half between neighbouring outputs, of both signs, and the integers beside it."""
    halves = np.arange(-2 * 255 - 3, 2 * 255 + 4)
    network = Network(DType.U8, (1,))
    bias = Tensor.from_array(DType.S32, halves)
    weight = Tensor.from_array(DType.S8, np.zeros((len(halves), 1), np.int64))
    network.add(Linear(name="linear", inputs=("image",), input_type=DType.U8, weight=weight, bias=bias))
    network.requantize("quantize", "linear", target, 2**11, 12)
    result = interpret(network.graph(), np.zeros((1, 1), np.uint8))["quantize"][0]
    away = np.sign(halves) * ((np.abs(halves) + 1) // 2)
    np.testing.assert_array_equal(result, np.clip(away, target.minimum, target.maximum))
    assert_agrees(network.graph(), np.zeros((2, 1), np.uint8))


@pytest.mark.parametrize("method", ["sparse", "sparse_single", "wide", "winograd", "winograd_quad", "pair", "single"])
@pytest.mark.parametrize("shift", [0, 1, 15, 16, 30, 31])
def test_every_shift_of_a_shortcut(method: str, shift: int) -> None:
    """The half that rounds is 2**(shift - 1), of 31 too; sums of one unit show a shortcut that is off by one."""
    factor = min(2**16 - 1, max(1, (2**31 - 1 - (1 << shift >> 1)) // 15))
    network = Network(DType.U4, (1, 3, 3))
    source = copied(network, DType.U4)
    weight = Tensor.from_array(
        DType.S4, np.eye(32, 1, dtype=np.int64).reshape(32, 1, 1, 1) + np.zeros((32, 1, 3, 3), int)
    )
    for name in ("conv", "second"):
        network.add(
            Conv2d(name=name, inputs=(source,), input_type=DType.U4, weight=weight, padding=Padding(1, 1, 1, 1))
        )
    network.requantize("narrow", "second", DType.U4, 2**16 - 1, 0)
    network.requantize("rescale", "narrow", DType.S32, factor, shift)
    network.add(Add(name="add", inputs=("rescale", "conv")))
    network.requantize("quantize", "add", DType.U4, 2**16 - 1, 15)
    batch = np.random.default_rng(shift).integers(0, 2, (5, 1, 3, 3)).astype(np.uint8)
    with forced(always(method)):
        assert_agrees(network.graph(), batch)
