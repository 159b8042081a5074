"""Small random networks for every kernel, with fixed seeds: odd channels, borders, every epilogue."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from nybble.backends.cuda.kernels import CODES, JOIN, STEMS, ConvKernel, all_kernels
from nybble.graph import (
    Add,
    AvgPool2d,
    Concat,
    Conv2d,
    DepthToSpace,
    DType,
    Graph,
    Input,
    Linear,
    MaxPool2d,
    Mul,
    Node,
    Padding,
    PadEdges,
    Pair,
    PickChannels,
    PReLU,
    Preprocessing,
    Quantize,
    ReLU,
    ResizeBilinear,
    ResizeNearest,
    Scale,
    Slice,
    Table,
    Tensor,
)
from nybble.graph.types import Array
from nybble.synthetic import bottleneck_resnet


class Case(NamedTuple):
    """A network, its inputs, and kernels that replace the defaults.

    Inputs are integers, or normalised float32 if the network has a preprocessing.
    """

    name: str
    graph: Graph
    x: Array
    kernels: dict[str, str]


def cases() -> Iterator[Case]:
    """One layer for each convolution kernel, for each stem, then networks that use every other kernel."""
    for seed, kernel in enumerate(all_kernels()):
        yield _projection(kernel, seed) if kernel.rule == JOIN else _convolution(kernel, seed)
    for name in STEMS:
        yield _stem(name)
    for name, graph in (
        ("bottlenecks", bottleneck_resnet((1, 1), width=16, classes=10, image=32, seed=1)),
        ("depthwise, grouped, gates, tables, pools, concatenation", mixed_network()),
        ("moves, interpolation, PReLU, sums of rescaled codes", moved_network()),
    ):
        yield Case(name, graph, _inputs(graph, 2, 7), {})
    yield _numbers()


def _inputs(graph: Graph, images: int, seed: int) -> Array:
    entry = graph.inputs[0]
    random = np.random.default_rng(seed)
    values = random.integers(entry.dtype.minimum, entry.dtype.maximum, (images, *entry.shape), endpoint=True)
    # A third of the elements at the ends of the range, where sums are largest.
    ends = random.choice((entry.dtype.minimum, entry.dtype.maximum), values.shape)
    return np.where(random.random(values.shape) < 1 / 3, ends, values).astype(entry.dtype.storage)


def _drawn(random: np.random.Generator, dtype: DType, *shape: int) -> Tensor:
    return Tensor.from_array(dtype, random.integers(dtype.minimum, dtype.maximum, shape, endpoint=True))


def _factors(random: np.random.Generator, count: int, most: int) -> Tensor:
    return Tensor.from_array(DType.U32, random.integers(max(1, most // 8), most, count, endpoint=True))


def _convolution(kernel: ConvKernel, seed: int) -> Case:
    """A layer with an incomplete last tile and odd channels; with borders if the kernel has windows."""
    random = np.random.default_rng(seed)
    bits = int(kernel.types[1])
    dtype = {"u4": DType.U4, "s4": DType.S4, "u8": DType.U8, "s8": DType.S8}[kernel.types[:2]]
    # The padded bytes of a pixel must be a multiple of the depth.
    inputs = (2 * kernel.tile.depth if bits == 4 else kernel.tile.depth) * 2 - 3
    outputs = kernel.tile.columns + 11
    size = 1 if kernel.one_tap else 3
    weight = _drawn(random, DType.S4 if bits == 4 else DType.S8, outputs, inputs, size, size)
    window = {} if kernel.one_tap else {"padding": Padding(1, 2, 0, 1), "dilation": Pair(1, 2)}
    conv = Conv2d(
        name="conv",
        inputs=("x",),
        input_type=dtype,
        weight=weight,
        bias=Tensor.from_array(DType.S32, random.integers(-5000, 5000, outputs)),
        stride=Pair(2, 1),
        **window,  # type: ignore[arg-type]
    )
    nodes: list[Node] = [conv]
    is_codes = kernel.rule == CODES
    if is_codes or seed % 2:
        # Products stay below 2^31 if the kernel rounds in 32 bits; otherwise they must exceed that.
        bound = int(np.abs(weight.numpy().astype(np.int64)).sum(axis=(1, 2, 3)).max()) * dtype.magnitude + 5000
        shift = 14
        most = ((1 << 31) - 1 - (1 << shift)) // bound if is_codes else 1 << 20
        target = DType.U4 if is_codes else (DType.U4, DType.S4, DType.U8, DType.S8)[seed // 2 % 4]
        nodes.append(ReLU(name="relu", inputs=("conv",), maximum=None))
        nodes.append(
            Quantize(
                name="codes",
                inputs=("relu",),
                input_type=DType.U31,
                output_type=target,
                factor=_factors(random, outputs, most),
                shift=shift,
            )
        )
    graph = Graph([Input(name="x", dtype=dtype, shape=(inputs, 19, 9))], nodes, [nodes[-1].name])
    return Case(kernel.name, graph, _inputs(graph, 2, seed), {nodes[-1].name: kernel.name})


def _projection(kernel: ConvKernel, seed: int) -> Case:
    """The end of a bottleneck whose projection skips pixels, and behind it one that adds its codes."""
    random = np.random.default_rng(seed)
    inputs, outputs, u4 = 4 * kernel.tile.depth - 3, kernel.tile.columns + 11, DType.U4

    def conv(name: str, source: str, channels: int, count: int, stride: Pair) -> Conv2d:
        weight = _drawn(random, DType.S4, count, channels, 1, 1)
        bias = Tensor.from_array(DType.S32, random.integers(-5000, 5000, count))
        return Conv2d(name=name, inputs=(source,), input_type=u4, weight=weight, bias=bias, stride=stride)

    def rescaled(name: str, source: str, dtype: DType) -> Quantize:
        factor = _factors(random, outputs, 2000)
        return Quantize(name=name, inputs=(source,), input_type=dtype, output_type=DType.S32, factor=factor, shift=5)

    side = _codes(random, "side", "projection", outputs, 900)
    nodes: list[Node] = [
        conv("head", "x", inputs, inputs, Pair(2, 1)),
        _codes(random, "middle", "head", inputs, 900),
        conv("projection", "x", inputs, outputs, Pair(2, 2)),
        replace(side, output_type=DType.S8),
        rescaled("rescaled1", "side", DType.S8),
        conv("tail1", "middle", inputs, outputs, Pair(1, 2)),
        Add(name="add1", inputs=("tail1", "rescaled1")),
        ReLU(name="relu1", inputs=("add1",), maximum=None),
        replace(_codes(random, "codes1", "relu1", outputs, 900), input_type=DType.U31),
        rescaled("rescaled2", "codes1", u4),
        conv("tail2", "codes1", outputs, outputs, Pair(1, 1)),
        Add(name="add2", inputs=("tail2", "rescaled2")),
        _codes(random, "codes2", "add2", outputs, 900),
    ]
    graph = Graph([Input(name="x", dtype=u4, shape=(inputs, 19, 9))], nodes, ["codes2"])
    return Case(kernel.name, graph, _inputs(graph, 2, seed), {"codes1": kernel.name})


def _stem(name: str) -> Case:
    """Incomplete tiles, borders on every side, and more channels than a block computes."""
    random = np.random.default_rng(11)
    dtype = DType.S8 if name == "stem_s8s8" else DType.U8
    conv = Conv2d(
        name="conv",
        inputs=("x",),
        input_type=dtype,
        weight=_drawn(random, DType.S8, 75, 3, 7, 5),
        bias=Tensor.from_array(DType.S32, random.integers(-5000, 5000, 75)),
        stride=Pair(2, 1),
        padding=Padding(3, 2, 1, 2),
    )
    pool = MaxPool2d(
        name="pool",
        inputs=("codes",),
        input_type=DType.U4,
        kernel_size=Pair(3, 2),
        stride=Pair(2, 1),
        padding=Padding(1, 1, 1, 0),
    )
    graph = Graph(
        [Input(name="x", dtype=dtype, shape=(3, 41, 37))], [conv, _codes(random, "codes", "conv", 75), pool], ["pool"]
    )
    return Case(name, graph, _inputs(graph, 2, 5), {})


def _codes(random: np.random.Generator, name: str, source: str, channels: int, most: int = 90) -> Quantize:
    return Quantize(
        name=name,
        inputs=(source,),
        input_type=DType.S32,
        output_type=DType.U4,
        factor=_factors(random, channels, most),
        shift=16,
    )


def _numbers() -> Case:
    """Normalised photos: halves, numbers beyond the range, infinities."""
    random = np.random.default_rng(13)
    entry = Input(name="x", dtype=DType.S8, shape=(3, 19, 7))
    conv = Conv2d(name="conv", inputs=("x",), input_type=DType.S8, weight=_drawn(random, DType.S8, 5, 3, 3, 3))
    preprocessing = Preprocessing(crop=(19, 7), resize=19, input_type=DType.S8, scale_denominator=2.5)
    x = np.round(random.normal(0, 2, (2, *entry.shape)) * 64) / 64
    x.reshape(-1)[:2] = (np.inf, -np.inf)
    graph = Graph([entry], [conv], ["conv"], preprocessing=preprocessing)
    return Case("normalised photos", graph, x.astype(np.float32), {})


def mixed_network() -> Graph:
    """Every kind of block that a ResNet lacks, with logits at the end."""
    random = np.random.default_rng(3)
    u4 = DType.U4
    table = Tensor.from_array(DType.S16, random.integers(0, 16, 16))
    nodes: list[Node] = [
        Conv2d(
            name="depthwise",
            inputs=("x",),
            input_type=u4,
            weight=_drawn(random, DType.S4, 24, 1, 3, 3),
            padding=Padding(1, 1, 1, 1),
            groups=24,
        ),
        _codes(random, "codes1", "depthwise", 24, 9000),
        Conv2d(
            name="grouped", inputs=("codes1",), input_type=u4, weight=_drawn(random, DType.S4, 16, 6, 1, 1), groups=4
        ),
        _codes(random, "codes2", "grouped", 16, 4000),
        Table(name="table", inputs=("codes2",), input_type=u4, output_type=u4, table=table),
        AvgPool2d(name="mean", inputs=("table",), input_type=u4, kernel_size=Pair(8, 6), stride=Pair(1, 1)),
        Mul(name="mul", inputs=("table", "mean")),
        _codes(random, "codes3", "mul", 16, 8000),
        Concat(name="join", inputs=("codes3", "codes1"), input_type=u4),
        MaxPool2d(name="pool", inputs=("join",), input_type=u4, kernel_size=Pair(3, 3), stride=Pair(2, 2)),
        Linear(name="linear", inputs=("pool",), input_type=u4, weight=_drawn(random, DType.S8, 13, 40 * 3 * 2)),
        Scale(
            name="logits", inputs=("linear",), out_scale=Tensor.from_array(DType.F32, random.random(13, np.float32) + 1)
        ),
    ]
    return Graph([Input(name="x", dtype=u4, shape=(24, 8, 6))], nodes, ["logits"])


def moved_network() -> Graph:
    """Codes that move or are interpolated, and sums that a ResNet lacks."""
    random = np.random.default_rng(9)
    u4, s8 = DType.U4, DType.S8
    negative = Tensor.from_array(DType.S32, random.integers(-900, 900, 20))
    nodes: list[Node] = [
        Slice(name="slice", inputs=("x",), input_type=u4, start=(1, 0, 2), stop=(21, 7, 6), step=(1, 2, 1)),
        ResizeNearest(name="nearest", inputs=("slice",), input_type=u4, size=Pair(6, 7)),
        ResizeBilinear(name="bilinear", inputs=("nearest",), input_type=u4, size=Pair(9, 5)),
        PadEdges(name="edges", inputs=("bilinear",), input_type=u4, padding=Padding(1, 2, 0, 1), mode="reflect"),
        DepthToSpace(name="pixels", inputs=("edges",), input_type=u4, block=Pair(2, 1)),
        PickChannels(name="picked", inputs=("pixels",), input_type=u4, channels=(9, 0, 0, 3, 7)),
        Conv2d(name="conv", inputs=("picked",), input_type=u4, weight=_drawn(random, DType.S4, 20, 5, 1, 1)),
        PReLU(
            name="prelu",
            inputs=("conv",),
            input_type=DType.S32,
            output_type=s8,
            factor=_factors(random, 20, 900),
            negative_factor=negative,
            shift=10,
        ),
        MaxPool2d(name="pool", inputs=("prelu",), input_type=s8, kernel_size=Pair(1, 1), stride=Pair(1, 1)),
        *(
            Quantize(
                name=f"rescaled_{source}",
                inputs=(source,),
                input_type=s8,
                output_type=DType.S32,
                factor=_factors(random, 20, 900),
                shift=3,
            )
            for source in ("prelu", "pool")
        ),
        Add(name="add", inputs=("rescaled_prelu", "rescaled_pool")),
        _codes(random, "codes", "add", 20, 900),
    ]
    return Graph([Input(name="x", dtype=u4, shape=(24, 8, 6))], nodes, ["codes"])
