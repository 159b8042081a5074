"""The methods of pairs and single inputs: signed or large inputs by an offset that padding holds too, and sums at the
bounds of their segments."""

from __future__ import annotations

import numpy as np
import pytest
from agreement import ISAS, assert_agrees
from kernels import always, forced
from networks import Network, copied

from nybble.backends.cpu.rows import rows
from nybble.engine import Engine
from nybble.graph import Conv2d, DType, Graph, Padding, Pair, ReLU, Tensor
from nybble.graph.types import ACTIVATIONS
from strategies import values_of

VECTOR_ISAS = [isa for isa in ISAS if isa != "scalar"]
METHODS = ("pair", "single")
EXTREMES = ("highest", "lowest", "extreme")


def conv(
    dtype: DType, inputs: int, outputs: int, kernel: int, style: str, padding: Padding | None = None, stride: int = 1
) -> Graph:
    """A convolution of a stored value on 5x6 pixels by s4 weights."""
    network = Network(dtype, (inputs, 5, 6))
    source = copied(network, dtype)
    network.add(
        Conv2d(
            name="conv",
            inputs=(source,),
            input_type=dtype,
            weight=Tensor.from_array(DType.S4, values_of(DType.S4, (outputs, inputs, kernel, kernel), style, 5)),
            bias=Tensor.from_array(DType.S16, values_of(DType.S16, (outputs,), "random", 6)),
            padding=padding or Padding(),
            stride=Pair(stride, stride),
        )
    )
    return network.graph()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("inputs", [15, 16, 47, 300])
@pytest.mark.parametrize("dtype", ACTIVATIONS)
def test_segments_at_the_bounds(dtype: DType, inputs: int, method: str) -> None:
    """15 or 16 channels of s8 or u8 by -8 or 7 just fit 16 bits, or just do not."""
    batch = np.concatenate([values_of(dtype, (1, inputs, 5, 6), style, 3) for style in EXTREMES])
    for style in EXTREMES:
        with forced(always(method, tile_pixels=7)):
            assert_agrees(conv(dtype, inputs, 97, 1, style), batch, isas=VECTOR_ISAS)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("padding", [(1, 1, 1, 1), (0, 0, 1, 1), (2, 0, 0, 4)])
@pytest.mark.parametrize("dtype", [DType.S4, DType.S8, DType.U8])
def test_padding_is_zero(dtype: DType, padding: tuple[int, int, int, int], method: str) -> None:
    """It is the offset where inputs have one."""
    for stride in (1, 2):
        graph = conv(dtype, 35, 33, 3, "random", Padding(*padding), stride)
        with forced(always(method, tile_pixels=4)):
            assert_agrees(graph, values_of(dtype, (2, 35, 5, 6), "extreme", 4), [2], isas=VECTOR_ISAS)


def test_biases_beyond_sixteen_bits() -> None:
    """Where they make every result the largest, or zero, 16-bit lanes may finish the group; one that does not, not."""
    network = Network(DType.S8, (16, 5, 6))
    source = copied(network, DType.S8)
    weight = values_of(DType.S4, (96, 16, 1, 1), "random", 7)
    bias = np.zeros(96, np.int64)
    bias[[3, 5, 40, 41, 90]] = (1 << 21, -(1 << 21), 40_000, -33_000, 32_768)
    network.add(
        Conv2d(
            name="conv",
            inputs=(source,),
            input_type=DType.S8,
            weight=Tensor.from_array(DType.S4, weight),
            bias=Tensor.from_array(DType.S32, bias),
        )
    )
    network.add(ReLU(name="relu", inputs=("conv",)))
    for target, factor in ((DType.U7, 900), (DType.U7, 90), (DType.U4, 200)):
        network.requantize(f"quantize{target.name}{factor}", "relu", target, factor, 16)
        graph = network.graph()
        for method in ("pair", "single", "chained"):
            with forced(always(method)):
                assert_agrees(graph, values_of(DType.S8, (3, 16, 5, 6), "extreme", 8), isas=VECTOR_ISAS)


def test_who_gets_it_by_default() -> None:
    """Without dot products: signed inputs, and u8 by s4, which has no lists."""
    for isa in VECTOR_ISAS:
        has_dot_products = rows(isa)["quad"].has_dot_products
        method = "single" if "single" in rows(isa) else "pair"
        for dtype, wanted in ((DType.S4, True), (DType.S8, True), (DType.U8, True), (DType.U4, False)):
            with Engine(conv(dtype, 70, 70, 1, "random"), isa=isa, tuned=False) as engine:
                assert (engine.plan.kernels["conv"].method == method) is (wanted and not has_dot_products)
