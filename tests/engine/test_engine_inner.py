"""The fast inner product: sums of inputs and weights at the bounds of bytes, and windows that leave the image."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from agreement import ISAS, assert_agrees
from hypothesis import given
from kernels import always, forced
from networks import Network, conv_networks, copied, images

from nybble import _native
from nybble.backends.cpu import planner
from nybble.backends.cpu.choices import candidates, convolutions
from nybble.backends.cpu.kernel import Kernel, choose_kernel
from nybble.backends.cpu.rows import layer, rows
from nybble.engine import Engine
from nybble.graph import Conv2d, DType, Graph, Linear, Padding, Pair, Table, Tensor
from nybble.graph.types import ACTIVATIONS, Array
from strategies import STYLES, values_of

INNER_ISAS = [isa for isa in ISAS if "inner" in rows(isa)]
#: Those whose sums with weights of s4 fit bytes, and 8 bits, whose sums do not.
TYPES = (DType.U4, DType.S4, DType.U7)
#: The largest weight whose sums with all inputs of a type fit bytes: 2 W + the inputs' span is at most 255.
MOST_WEIGHTS = {DType.U4: 120, DType.S4: 120, DType.U7: 64}
EXTREMES = ("highest", "lowest", "extreme")


def conv(
    weight: Array,
    dtype: DType,
    size: tuple[int, int],
    kind: DType = DType.S4,
    padding: Padding | None = None,
    stride: Pair | None = None,
    dilation: Pair | None = None,
) -> Graph:
    """A convolution of a stored value, its sums as they are."""
    network = Network(dtype, (weight.shape[1], *size))
    source = copied(network, dtype)
    network.add(
        Conv2d(
            name="conv",
            inputs=(source,),
            input_type=dtype,
            weight=Tensor.from_array(kind, weight),
            padding=padding or Padding(),
            stride=stride or Pair(1, 1),
            dilation=dilation or Pair(1, 1),
        )
    )
    return network.graph()


def check(graph: Graph, batch: Array, **cuts: int) -> None:
    dtype = graph.inputs[0].dtype
    with forced(always("inner", **cuts)):
        assert_agrees(graph, batch.astype(dtype.storage), [1, 2], isas=INNER_ISAS)


@given(st.data(), st.sampled_from((1, 2, 3)), st.sampled_from((1, 2, 8)))
def test_any_layer(data: st.DataObject, threads: int, together: int) -> None:
    """Any window, stride, dilation and padding, with any epilogue; what the row refuses takes the portable kernel."""
    graph = data.draw(conv_networks())
    cuts = {
        "block_outputs": data.draw(st.sampled_from((32, 64, 96, 128, 256))),
        "tile_pixels": data.draw(st.integers(1, 64)),
    }
    with forced(always("inner", **cuts)):
        assert_agrees(graph, data.draw(images(graph)), [threads], isas=INNER_ISAS, together=together)


@pytest.mark.parametrize("inputs", EXTREMES)
@pytest.mark.parametrize("weights", STYLES)
@pytest.mark.parametrize("channels", [1, 15, 17, 31, 33, 100])
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_styles(dtype: DType, channels: int, weights: str, inputs: str) -> None:
    """Channels whose partner is there for alignment alone, or is in the other half of a chunk."""
    weight = values_of(DType.S4, (33, channels, 3, 3), weights, 3)
    batch = values_of(dtype, (2, channels, 5, 6), inputs, 4)
    check(conv(weight, dtype, (5, 6), padding=Padding(1, 1, 1, 1)), batch)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_sums_at_the_bounds_of_bytes(dtype: DType) -> None:
    """Weights of s8 up to the largest that fits: every sum of the two ends of inputs and weights."""
    most = MOST_WEIGHTS[dtype]
    halves = np.arange(64) % 32 < 16
    signs = np.array([np.ones(64), -np.ones(64), np.where(halves, 1, -1), np.where(halves, -1, 1)], int)
    ends = [np.where(signs > 0, dtype.maximum, dtype.minimum)]
    ends += [np.where(signs > 0, 0, dtype.minimum), np.where(signs > 0, dtype.maximum, 0)]
    batch = np.concatenate(ends)[:, :, None, None] + np.zeros((1, 1, 3, 3), int)
    for kernel in (1, 3):
        weight = most * signs[:, :, None, None] + np.zeros((1, 1, kernel, kernel), int)
        graph = conv(weight, dtype, (3, 3), DType.S8, padding=Padding(*(kernel // 2,) * 4))
        asked = layer(convolutions(graph)["conv"], most)
        beyond = layer(convolutions(graph)["conv"], most + 1)
        for isa in INNER_ISAS:
            assert rows(isa)["inner"].why_not(asked) is None
            assert "fit bytes" in str(rows(isa)["inner"].why_not(beyond))
        check(graph, batch)


@pytest.mark.parametrize("isa", INNER_ISAS)
def test_codes_of_eight_bits_fit_where_there_are_241(isa: str) -> None:
    """With weights of s4, 240 where these are of both signs alike; beyond, and with an input below -120, none would."""

    def why_not(low: int, high: int, most_weight: int, **bounds: tuple[int, int]) -> str | None:
        asked = _native.ConvLayer(
            inputs=(64, 4, 4),
            outputs=(64, 4, 4),
            kernel=(1, 1),
            stride=(1, 1),
            padding=(0, 0),
            dilation=(1, 1),
            groups=1,
            low=low,
            high=high,
            most_weight=most_weight,
            is_padded=True,
            **bounds,
        )
        return rows(isa)["inner"].why_not(asked)

    for low, high in ((0, 239), (-120, 119), (-100, 127)):
        assert why_not(low, high, 8) is None
        assert why_not(low, high + 1, 8) is not None or high + 1 - low <= 239
        assert why_not(low, high, 9) is not None or high - low <= 237
    assert why_not(-121, 100, 8) is not None
    assert why_not(0, 255, 8) is not None
    assert why_not(-128, 127, 8) is not None
    s4, s8 = (-8, 7), (-128, 127)
    assert why_not(0, 255, 8, weights=s4) is not None
    assert why_not(0, 255, 8, weights=s4, clip=(0, 240)) is None
    assert why_not(0, 255, 8, weights=s4, clip=(0, 241)) is not None
    assert why_not(*s8, 8, weights=s4, clip=(-120, 120)) is None
    for clip in ((-121, 119), (-120, 121)):
        assert why_not(*s8, 8, weights=s4, clip=clip) is not None
    for weights in ((-9, 7), (-8, 8)):
        assert why_not(0, 255, 9, weights=weights, clip=(0, 240)) is not None


def clipped(dtype: DType, most: int, weight: Array, size: tuple[int, int]) -> Graph:
    """A convolution of 8-bit codes that a table cuts off at ``most``, of both signs where there are two."""
    network = Network(dtype, (weight.shape[1], *size))
    codes = np.arange(dtype.minimum, dtype.maximum + 1)
    table = Tensor.from_array(DType.S16, np.clip(codes, -most, most))
    network.add(Table(name="clip", inputs=("image",), input_type=dtype, output_type=dtype, table=table))
    kernel = weight.shape[2]
    tensor = Tensor.from_array(DType.S4, weight)
    padding = Padding(*(kernel // 2,) * 4)
    network.add(Conv2d(name="conv", inputs=("clip",), input_type=dtype, weight=tensor, padding=padding))
    return network.graph()


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize(("dtype", "most"), [(DType.U8, 240), (DType.S8, 120)], ids=["u8", "s8"])
def test_clipped_codes_of_eight_bits_at_the_bounds(dtype: DType, most: int, kernel: int) -> None:
    """Sums of the ends of what the clip leaves and of s4, in both halves of the channels; refused one code later."""
    ends = np.array([(a, b) for a in (-8, 0, 7) for b in (-8, 0, 7)])
    weight = np.where(np.arange(64) % 32 < 16, ends[:, :1], ends[:, 1:])[:, :, None, None]
    weight = weight + np.zeros((1, 1, kernel, kernel), int)
    inputs = np.array([(a, b) for a in (-most, 0, most) for b in (-most, 0, most)])
    batch = np.where(np.arange(64) % 32 < 16, inputs[:, :1], inputs[:, 1:])[:, :, None, None]
    # The table cuts off what lies beyond.
    batch = np.clip(np.concatenate([batch, batch * 2]) + np.zeros((1, 1, 3, 4), int), dtype.minimum, dtype.maximum)
    graph, beyond = clipped(dtype, most, weight, (3, 4)), clipped(dtype, most + 1, weight, (3, 4))
    for isa in INNER_ISAS:
        steps = {name: convolutions(each)["conv"] for name, each in (("fits", graph), ("beyond", beyond))}
        assert steps["fits"].input.clipped == (max(-most, dtype.minimum), most)
        assert rows(isa)["inner"].why_not_chosen(layer(steps["fits"])) is None
        assert "fit bytes" in str(rows(isa)["inner"].why_not_chosen(layer(steps["beyond"])))
        assert "inner" in {kernel.method for kernel in candidates(steps["fits"], isa)}
        with (
            pytest.MonkeyPatch.context() as patch,
            pytest.raises(ValueError, match="inner: needs inputs and weights whose sums fit bytes"),
        ):
            patch.setattr(planner, "default_kernels", lambda steps, isa: {"conv": Kernel("inner", block_outputs=32)})
            Engine(beyond, threads=1, isa=isa, tuned=False)
        with forced(always("inner")), Engine(graph, threads=1, isa=isa, tuned=False) as engine:
            assert engine.plan.kernels["conv"].method == "inner"
    check(graph, batch)


@pytest.mark.parametrize("channels", [30, 64])
@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (2, 5)])
@pytest.mark.parametrize("stride", [(1, 1), (2, 2), (3, 1)])
@pytest.mark.parametrize("dilation", [(1, 1), (2, 3), (1, 2)])
def test_windows(channels: int, kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]) -> None:
    """Padding on every side, of more pixels than the window has."""
    weight = values_of(DType.S4, (40, channels, *kernel), "random", 1)
    for dtype, padding in ((DType.S4, (0, 0, 0, 0)), (DType.U4, (1, 2, 3, 4)), (DType.U7, (5, 0, 0, 6))):
        graph = conv(weight, dtype, (11, 13), DType.S4, Padding(*padding), Pair(*stride), Pair(*dilation))
        check(graph, values_of(dtype, (2, channels, 11, 13), "random", 2), tile_pixels=5)


@pytest.mark.parametrize("tile", [1, 2, 4, 5, 7, 8, 9, 12, 13, 15, 16, 17, 64])
def test_every_count_of_pixels_that_is_left_over(tile: int) -> None:
    for kernel in (1, 3):
        weight = values_of(DType.S4, (64, 40, kernel, kernel), "random", 1)
        graph = conv(weight, DType.U4, (4, 17), padding=Padding(*(kernel // 2,) * 4))
        check(graph, values_of(DType.U4, (9, 40, 4, 17), "random", tile), tile_pixels=tile)


@pytest.mark.parametrize("outputs", [1, 31, 33, 64, 65, 129, 300])
@pytest.mark.parametrize("block", [32, 96, 256])
def test_every_block_of_outputs(block: int, outputs: int) -> None:
    weight = values_of(DType.S4, (outputs, 37, 1, 1), "random", outputs)
    check(conv(weight, DType.U4, (5, 5)), values_of(DType.U4, (9, 37, 5, 5), "random", block), block_outputs=block)


def test_pixels_of_more_channels_than_one_sum_may_have() -> None:
    """Beyond 2^14 channels the sum of a pixel is made of parts."""
    channels = (1 << 15) + 40
    network = Network(DType.U7, (channels,))
    source = copied(network, DType.U7)
    weight = values_of(DType.S4, (3, channels), "extreme", 1)
    network.add(
        Linear(name="linear", inputs=(source,), input_type=DType.U7, weight=Tensor.from_array(DType.S4, weight))
    )
    graph = network.graph()
    for style in EXTREMES:
        with forced(always("inner")):
            assert_agrees(graph, values_of(DType.U7, (1, channels), style, 2), isas=INNER_ISAS)


@pytest.mark.parametrize("isa", INNER_ISAS)
@pytest.mark.parametrize("dtype", ACTIVATIONS, ids=str)
def test_the_tuner_may_try_it_and_the_default_is_another(isa: str, dtype: DType) -> None:
    for kind in (DType.S4, DType.S8):
        graph = conv(values_of(kind, (64, 64, 1, 1), "random", 1), dtype, (8, 8), kind)
        step = convolutions(graph)["conv"]
        tried = {kernel.method for kernel in candidates(step, isa)}
        assert ("inner" in tried) == (dtype in TYPES and kind is DType.S4)
        assert choose_kernel(step, isa).method != "inner"
