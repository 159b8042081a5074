"""Random layers and networks on which the kernels for GPUs are compared with the reference."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest

from nybble.backends.cuda.kernels import CODES, JOIN, ConvKernel
from nybble.engine import Engine
from nybble.graph import (
    Add,
    Conv2d,
    DType,
    Graph,
    Input,
    MaxPool2d,
    Node,
    Padding,
    Pair,
    Preprocessing,
    Quantize,
    ReLU,
    Tensor,
)
from nybble.graph.types import ACTIVATIONS, Array
from nybble.reference import interpret
from nybble.synthetic import bottleneck_resnet
from strategies import STYLES, values_of

sys.path.append(str(Path(__file__).parent.parent / "engine"))
from networks import conv_networks, gated_networks, joined_networks, linear_networks, mixed_networks, pool_networks


def assert_agrees(graph: Graph, x: Array, generation: int, choices: dict[str, str] | None = None) -> None:
    expected = interpret(graph, x, keep=None)
    with Engine(graph, device="cuda-emulated", isa=f"sm_{generation}", choices=choices) as engine:  # type: ignore[arg-type]
        tapped = engine.tap(x)
        found = engine.run_integer(x)
    for name, value in tapped.items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)
        assert value.dtype == expected[name].dtype
    np.testing.assert_array_equal(found, expected[graph.outputs[0]])


@st.composite
def layers(draw: st.DrawFn, kernel: ConvKernel) -> tuple[Graph, Array]:
    """A convolution that a kernel can run, with the epilogue that it has, and inputs for it."""
    if kernel.rule == JOIN:
        return draw(projections(kernel))
    bits, is_signed = int(kernel.types[1]), kernel.types[0] == "s"
    dtype = {(4, False): DType.U4, (4, True): DType.S4, (8, False): DType.U8, (8, True): DType.S8}[bits, is_signed]
    # Depth 64 needs pixels of whole stages: 128 channels of 4 bits.
    inputs = draw(st.integers(65, 128)) if kernel.tile.depth == 64 else draw(st.integers(1, 150))
    outputs = draw(st.integers(1, 150))
    rows, columns = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    size, padding, dilation = Pair(1, 1), Padding(), Pair(1, 1)
    stride = Pair(draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    if not kernel.one_tap:
        dilation = Pair(draw(st.integers(1, 2)), draw(st.integers(1, 2)))
        padding = Padding(*(draw(st.integers(0, 2)) for _ in range(4)))
        reach = rows + padding.top + padding.bottom, columns + padding.left + padding.right
        size = Pair(*(draw(st.integers(1, min(4, (r - 1) // d + 1))) for r, d in zip(reach, dilation, strict=True)))
        if size == (1, 1) and not any(padding):
            padding = Padding(1, 0, 0, 0)
    seed = draw(st.integers(0, 2**32 - 1))
    random = np.random.default_rng(seed)
    weight_type = DType.S4 if bits == 4 else DType.S8
    weight = values_of(weight_type, (outputs, inputs, *size), draw(st.sampled_from(STYLES)), seed)
    conv = Conv2d(
        name="conv",
        inputs=("x",),
        input_type=dtype,
        weight=Tensor.from_array(weight_type, weight),
        bias=Tensor.from_array(DType.S32, random.integers(-5000, 5000, outputs)),
        stride=stride,
        padding=padding,
        dilation=dilation,
    )
    entry = Input(name="x", dtype=dtype, shape=(inputs, rows, columns))
    x = values_of(dtype, (draw(st.integers(1, 3)), *entry.shape), draw(st.sampled_from(STYLES)), seed + 1)
    is_narrow = kernel.rule == CODES
    if is_narrow and draw(st.booleans()):
        side = replace(conv, name="side", weight=Tensor.from_array(weight_type, weight[::-1]))
        nodes = [conv, side, *_rescaled(draw, "side", DType.U4, outputs, conv)]
        return _added(draw, entry, nodes, conv, "rescaled"), x
    nodes = [conv]
    if is_narrow or draw(st.booleans()):
        if draw(st.booleans()):
            maximum = None if is_narrow else draw(st.sampled_from((None, 700)))
            nodes.append(ReLU(name="relu", inputs=("conv",), maximum=maximum))
        shift = draw(st.integers(0, 20))
        # Products and the half that is added stay below 2^31 where the kernel rounds in 32 bits.
        bound = np.abs(weight.astype(np.int64)).sum(axis=(1, 2, 3)).max() * dtype.magnitude + 5000
        most = max(1, ((1 << 31) - 1 - (1 << shift)) // int(bound)) if is_narrow else 2**32 - 1
        factor = random.integers(0, most, outputs, endpoint=True)
        last = nodes[-1].name
        target = draw(st.sampled_from((DType.U4, DType.U4, DType.S4, DType.U7, DType.U8, DType.S8)))
        target = DType.U4 if is_narrow else target
        declared = DType.U31 if last == "relu" else DType.S32
        nodes.append(
            Quantize(
                name="codes",
                inputs=(last,),
                input_type=declared,
                output_type=target,
                factor=Tensor.from_array(DType.U32, factor),
                shift=shift,
            )
        )
    return Graph([entry], nodes, [nodes[-1].name]), x


def _drawn_factors(draw: st.DrawFn, least: int, most: int, count: int) -> Tensor:
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return Tensor.from_array(DType.U32, random.integers(least, most, count, endpoint=True))


def _rescaled(draw: st.DrawFn, name: str, target: DType, channels: int, conv: Conv2d) -> list[Node]:
    """The sums ``name`` as codes, and these as sums again, ``rescaled``."""
    bound = int(np.abs(conv.weight.numpy().astype(np.int64)).sum(axis=(1, 2, 3)).max()) * 15 + 5000
    shift = draw(st.integers(0, 16))
    factor = _drawn_factors(draw, 0, max(1, ((1 << 31) - 1 - (1 << shift)) // bound), channels)
    declared = DType.U31 if name == "side_relu" else DType.S32
    codes = Quantize(
        name="side_codes", inputs=(name,), input_type=declared, output_type=target, factor=factor, shift=shift
    )
    factor = _drawn_factors(draw, 0, draw(st.sampled_from((9, 65535))), channels)
    shift = draw(st.integers(0, 9))
    rescaled = Quantize(
        name="rescaled", inputs=("side_codes",), input_type=target, output_type=DType.S32, factor=factor, shift=shift
    )
    return [codes, rescaled]


def _added(draw: st.DrawFn, entry: Input, nodes: list[Node], conv: Conv2d, other: str) -> Graph:
    """The sums of a convolution and others together, as unsigned codes of 4 bits: products up to 2^31."""
    nodes = [*nodes, Add(name="add", inputs=(conv.name, other))]
    if draw(st.booleans()):
        nodes.append(ReLU(name="relu", inputs=("add",), maximum=draw(st.sampled_from((None, 2**31 - 1)))))
    last = nodes[-1].name
    shift = draw(st.integers(0, 20))
    bounds = np.abs(conv.weight.numpy().astype(np.int64)).sum(axis=(1, 2, 3)) * 15 + 5000
    bounds += Graph([entry], nodes, [last]).values[other].magnitude
    factors = ((1 << 31) - 1 - (1 << shift)) // bounds
    if draw(st.booleans()):
        factors = np.random.default_rng(draw(st.integers(0, 99))).integers(0, factors, endpoint=True)
    codes = Quantize(
        name="codes",
        inputs=(last,),
        input_type=DType.U31 if last == "relu" else DType.S32,
        output_type=DType.U4,
        factor=Tensor.from_array(DType.U32, factors),
        shift=shift,
    )
    return Graph([entry], [*nodes, codes], ["codes"])


@st.composite
def projections(draw: st.DrawFn, kernel: ConvKernel) -> tuple[Graph, Array]:
    """A bottleneck's end: a convolution, and a projection of what the block reads, perhaps in steps of pixels."""
    channels = st.integers(65, 128) if kernel.tile.depth == 64 else st.integers(1, 150)
    inputs, between, outputs = draw(channels), draw(channels), draw(st.integers(1, 150))
    rows, columns = draw(st.integers(1, 15)), draw(st.integers(1, 15))
    first, second = (Pair(draw(st.integers(1, 2)), draw(st.integers(1, 2))) for _ in range(2))
    seed = draw(st.integers(0, 2**32 - 1))

    def conv(name: str, source: str, channels: int, count: int, stride: Pair) -> Conv2d:
        weight = values_of(DType.S4, (count, channels, 1, 1), draw(st.sampled_from(STYLES)), seed + len(name))
        bias = np.random.default_rng(seed).integers(-5000, 5000, count)
        return Conv2d(
            name=name,
            inputs=(source,),
            input_type=DType.U4,
            weight=Tensor.from_array(DType.S4, weight),
            bias=Tensor.from_array(DType.S32, bias),
            stride=stride,
        )

    head = conv("head", "x", inputs, between, first)
    factor = _drawn_factors(draw, 1, 900, between)
    middle = Quantize(
        name="middle", inputs=("head",), input_type=DType.S32, output_type=DType.U4, factor=factor, shift=16
    )
    last = conv("conv", "middle", between, outputs, second)
    steps = Pair(first.rows * second.rows, first.columns * second.columns)
    projection = conv("projection", "x", inputs, outputs, steps)
    nodes: list[Node] = [head, middle, projection]
    name = "projection"
    if draw(st.booleans()):
        name = "side_relu"
        nodes.append(ReLU(name=name, inputs=("projection",), maximum=None))
    if draw(st.integers(0, 3)):
        nodes += _rescaled(draw, name, draw(st.sampled_from(ACTIVATIONS)), outputs, projection)
    entry = Input(name="x", dtype=DType.U4, shape=(inputs, rows, columns))
    x = values_of(DType.U4, (draw(st.integers(1, 3)), *entry.shape), draw(st.sampled_from(STYLES)), seed + 1)
    return _added(draw, entry, [*nodes, last], last, nodes[-1].name), x


@st.composite
def stems(draw: st.DrawFn, types: str, channels: int = 0) -> tuple[Graph, Array]:
    """A first convolution that the stem's kernel can run, with any epilogue, a pool behind it or none, and inputs."""
    dtype = DType.S8 if types == "s8s8" else draw(st.sampled_from((DType.U8, DType.U7)))
    channels = channels or draw(st.integers(1, 4))
    extents = Pair(draw(st.integers(1, 45)), draw(st.integers(1, 45)))
    padding = Padding(*(draw(st.integers(0, 3)) for _ in range(4)))
    dilation = Pair(draw(st.integers(1, 2)), 1)
    reach = extents.rows + padding.top + padding.bottom, extents.columns + padding.left + padding.right
    tallest = min(8, (reach[0] - 1) // dilation.rows + 1)
    size = Pair(draw(st.integers(1, tallest)), draw(st.integers(1, min(8, reach[1]))))
    outputs, seed = draw(st.integers(1, 140)), draw(st.integers(0, 2**32 - 1))
    random = np.random.default_rng(seed)
    weight = values_of(DType.S8, (outputs, channels, *size), draw(st.sampled_from(STYLES)), seed)
    conv = Conv2d(
        name="conv",
        inputs=("x",),
        input_type=dtype,
        weight=Tensor.from_array(DType.S8, weight),
        bias=Tensor.from_array(DType.S32, random.integers(-5000, 5000, outputs)),
        stride=Pair(draw(st.integers(1, 3)), draw(st.integers(1, 3))),
        padding=padding,
        dilation=dilation,
    )
    nodes: list[Node] = [conv]
    if draw(st.booleans()):
        nodes.append(ReLU(name="relu", inputs=("conv",), maximum=draw(st.sampled_from((None, 700)))))
    last, target = nodes[-1].name, draw(st.sampled_from((DType.U4, DType.U4, DType.S4, DType.U7, DType.U8, DType.S8)))
    most = draw(st.sampled_from((20, 2**32 - 1)))
    nodes.append(
        Quantize(
            name="codes",
            inputs=(last,),
            input_type=DType.U31 if last == "relu" else DType.S32,
            output_type=target,
            factor=Tensor.from_array(DType.U32, random.integers(0, most, outputs, endpoint=True)),
            shift=draw(st.integers(0, 20)),
        )
    )
    rows, columns = (
        (count - (kernel - 1) * step - 1) // stride + 1
        for count, kernel, step, stride in zip(reach, size, dilation, conv.stride, strict=True)
    )
    if draw(st.booleans()):
        kernel = Pair(draw(st.integers(1, min(4, rows))), draw(st.integers(1, min(4, columns))))
        nodes.append(
            MaxPool2d(
                name="pool",
                inputs=("codes",),
                input_type=target,
                kernel_size=kernel,
                stride=Pair(draw(st.integers(1, 3)), draw(st.integers(1, 3))),
                padding=Padding(*(draw(st.integers(0, kernel[side % 2] // 2)) for side in range(4))),
                ceil_mode=draw(st.booleans()),
            )
        )
    entry = Input(name="x", dtype=dtype, shape=(channels, *extents))
    x = values_of(dtype, (draw(st.integers(1, 3)), *entry.shape), draw(st.sampled_from(STYLES)), seed + 1)
    return Graph([entry], nodes, [nodes[-1].name]), x


NETWORKS = {
    "conv": conv_networks(),
    "grouped": conv_networks(grouped=True),
    "linear": linear_networks(),
    "pool": pool_networks(),
    "joined": joined_networks(),
    "mixed": mixed_networks(),
    "gated": gated_networks(),
}


def numbers(dtype: DType) -> tuple[Graph, Array]:
    """A network that returns its input, and normalised photos: halves, ends, infinities, the smallest numbers."""
    entry = Input(name="x", dtype=dtype, shape=(3, 5, 7))
    preprocessing = Preprocessing(
        crop=entry.shape[1:], resize=7, input_type=dtype, scale_numerator=3.0, scale_denominator=0.7
    )
    node = MaxPool2d(name="copy", inputs=("x",), input_type=dtype, kernel_size=Pair(1, 1), stride=Pair(1, 1))
    random = np.random.default_rng(dtype.bits)
    x = random.normal(0, 0.4 * dtype.maximum, (3, *entry.shape)).astype(np.float32)
    flat = x.reshape(-1)
    # Halves of codes, and their neighbours.
    halves = ((np.arange(90) - 40.5) * 0.7 / 3).astype(np.float32)
    flat[:270] = np.concatenate([np.nextafter(halves, np.float32(side)) for side in (-9e9, 9e9)] + [halves])
    flat[270:278] = (np.inf, -np.inf, 3e38, -3e38, 1e-45, -1e-45, 0.0, -0.0)
    return Graph([entry], [node], ["copy"], preprocessing=preprocessing), x


def assert_numbers_agree(dtype: DType, generation: int) -> None:
    graph, x = numbers(dtype)
    preprocessing = graph.preprocessing
    assert preprocessing is not None
    with np.errstate(over="ignore"):
        expected = preprocessing.quantize(x)
    with Engine(graph, device="cuda-emulated", isa=f"sm_{generation}") as engine:
        np.testing.assert_array_equal(engine(x), expected)
        x[1, 2, 3, 4] = np.nan
        with pytest.raises(ValueError, match="without NaN, but the input holds NaN"):
            engine(x)


def every_kind_of_block() -> tuple[Graph, Array]:
    """Stem, pool, both bottlenecks, 8-bit shortcuts, global average, linear layer, logits; two inputs."""
    graph = bottleneck_resnet((1, 2), width=16, classes=10, image=32, seed=1)
    entry = graph.inputs[0]
    x = np.random.default_rng(0).integers(entry.dtype.minimum, entry.dtype.maximum + 1, (2, *entry.shape))
    return graph, x.astype(entry.dtype.storage)
