"""Drawn networks around one convolution or linear layer: every epilogue and every kernel is reached."""

from __future__ import annotations

from collections.abc import Sequence

import hypothesis.strategies as st
import numpy as np

from nybble.graph import (
    Add,
    AvgPool2d,
    Concat,
    Conv2d,
    DType,
    Graph,
    GraphError,
    Input,
    Linear,
    MaxPool2d,
    Mul,
    Node,
    Padding,
    Pair,
    Quantize,
    ReLU,
    Scale,
    Table,
    Tensor,
    ValueType,
)
from nybble.graph.infer import infer, infer_input
from nybble.graph.ops.windows import output_extent
from nybble.graph.types import ACTIVATIONS, SUMS, Array
from strategies import STYLES, graphs, tensors, values_of

#: Multiplications of one image at most: the portable kernel runs each example too.
MOST_PRODUCTS = 1 << 20
MOST_WEIGHTS = 1 << 17
SEEDS = st.integers(0, 2**32 - 1)


class Network:
    """Nodes added one by one, each checked as it is added."""

    def __init__(self, dtype: DType, shape: tuple[int, ...]) -> None:
        self.entry = Input(name="image", dtype=dtype, shape=shape)
        self.nodes: list[Node] = []
        self.values: dict[str, ValueType] = {"image": infer_input(self.entry)}

    def add(self, node: Node) -> str:
        """Raises GraphError where the node does not fit, and leaves the network as it was."""
        self.values[node.name] = infer(node, [self.values[name] for name in node.inputs])
        self.nodes.append(node)
        return node.name

    def requantize(
        self, name: str, source: str, target: DType, factor: int | Array, shift: int, kind: DType = DType.U16
    ) -> str:
        value = self.values[source]
        factors = np.broadcast_to(np.asarray(factor, np.int64), value.shape[:1])
        tensor = Tensor.from_array(kind, factors)
        declared = value.dtype
        return self.add(
            Quantize(name=name, inputs=(source,), input_type=declared, output_type=target, factor=tensor, shift=shift)
        )

    def graph(self, output: str | None = None) -> Graph:
        return Graph([self.entry], self.nodes, [output or self.nodes[-1].name])


def copied(network: Network, dtype: DType) -> str:
    """The input as a stored value of a type: inputs lie in memory without channel padding, values with it."""
    return network.requantize("copied", "image", dtype, 1, 0)


@st.composite
def images(draw: st.DrawFn, graph: Graph, count: int = 9) -> Array:
    """So many inputs of a graph; half of them have pixels that are zero in every channel."""
    entry = graph.inputs[0]
    seed = draw(SEEDS)
    values = values_of(entry.dtype, (count, *entry.shape), draw(st.sampled_from(STYLES)), seed)
    if len(entry.shape) == 3 and draw(st.booleans()):
        keep = np.random.default_rng(seed).random((count, 1, *entry.shape[1:])) < 0.5
        values = np.where(keep, values, 0).astype(values.dtype)
    return values


@st.composite
def conv_networks(
    draw: st.DrawFn,
    winograd: bool = False,
    grouped: bool = False,
    paired: bool = False,
    types: Sequence[DType] = (DType.U4,),
) -> Graph:
    """A convolution of any geometry and types with any epilogue; or one that the Winograd or grouped method can run.

    Winograd's inputs are of one of ``types``. ``paired``: depthwise, and two output rows share rows of the input.
    """
    grouped = grouped or paired
    dtype = draw(st.sampled_from(ACTIVATIONS))
    forms = ("depthwise",) if paired else ("groups", "depthwise") if grouped else CHANNEL_FORMS
    groups, inputs, outputs = draw(_channels(forms))
    rows, columns = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    kernel = Pair(draw(st.integers(1, 7)), draw(st.integers(1, 7)))
    if draw(st.integers(0, 2)) == 0:
        kernel = Pair(1, 1)
    dilation = Pair(*(draw(st.sampled_from((1, 1, 2, 3))) for _ in range(2)))
    stride = Pair(*(draw(st.sampled_from((1, 1, 2, 3))) for _ in range(2)))
    if winograd:
        if groups > 1:
            groups, inputs, outputs = 1, draw(st.integers(1, 400)), draw(st.integers(1, 80))
        kernel, dilation, stride = Pair(3, 3), Pair(1, 1), Pair(1, 1)
    if paired:
        kernel = Pair(draw(st.sampled_from((3, 5))), draw(st.sampled_from((3, 5, 1, 2, 7, 10))))
        dilation, stride = Pair(1, dilation.columns), Pair(1, stride.columns)
    padding = draw(_paddings((rows, columns), kernel, dilation))
    height = output_extent(rows, kernel.rows, stride.rows, padding.top, padding.bottom, dilation.rows, False)
    width = output_extent(columns, kernel.columns, stride.columns, padding.left, padding.right, dilation.columns, False)
    # Fewer channels where the window is large.
    window = kernel.rows * kernel.columns
    most = max(1, min(MOST_WEIGHTS // window, MOST_PRODUCTS // (window * height * width)))
    if groups == 1:
        inputs = min(inputs, max(3, most // 3))
        outputs = max(1, min(outputs, most // inputs))
    network = Network(dtype, (inputs, rows, columns))
    if winograd:
        source = copied(network, draw(st.sampled_from(types)))
    else:
        is_tight = not grouped and draw(st.integers(0, 3)) == 0
        source = "image" if is_tight else copied(network, draw(st.sampled_from(ACTIVATIONS)))

    def convolution(name: str) -> Conv2d:
        kind = DType.S4 if winograd else draw(st.sampled_from((DType.S4, DType.S4, DType.S8)))
        return Conv2d(
            name=name,
            inputs=(source,),
            input_type=network.values[source].dtype,
            weight=draw(tensors(kind, (outputs, inputs // groups, *kernel))),
            bias=draw(_biases(outputs)),
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
        )

    sums = network.add(convolution("conv"))
    other: str | None = None
    kind = draw(st.sampled_from(("none", "none", "sums", "rescaled", "identity", "read twice")))
    if kind in ("sums", "rescaled"):
        other = network.add(convolution("second"))
        if kind == "rescaled":
            narrow = draw(quantizes(network, "narrow", other, draw(st.sampled_from(ACTIVATIONS))))
            other = network.add(narrow)
    elif kind == "identity" and network.values[source].shape == network.values[sums].shape:
        other = source
    elif kind == "read twice":
        other = draw(finished(network, sums, "again"))
    finish_with(draw, network, sums, other)
    return network.graph(_output(draw, network))


@st.composite
def linear_networks(draw: st.DrawFn) -> Graph:
    """A linear layer on a vector or on an image, which it reads flat, with any epilogue."""
    dtype = draw(st.sampled_from(ACTIVATIONS))
    if draw(st.booleans()):
        shape: tuple[int, ...] = (draw(st.one_of(st.integers(1, 80), st.integers(81, 900))),)
    else:
        shape = (draw(st.integers(1, 70)), draw(st.integers(1, 5)), draw(st.integers(1, 5)))
    network = Network(dtype, shape)
    source = "image" if draw(st.booleans()) else copied(network, draw(st.sampled_from(ACTIVATIONS)))
    outputs = draw(st.one_of(st.integers(1, 80), st.integers(81, 600)))
    outputs = max(1, min(outputs, MOST_WEIGHTS // int(np.prod(shape))))
    weight = draw(tensors(draw(st.sampled_from((DType.S4, DType.S8))), (outputs, int(np.prod(shape)))))
    sums = network.add(
        Linear(
            name="linear",
            inputs=(source,),
            input_type=network.values[source].dtype,
            weight=weight,
            bias=draw(_biases(outputs)),
        )
    )
    finish_with(draw, network, sums, None)
    return network.graph(_output(draw, network))


@st.composite
def stacked_networks(draw: st.DrawFn) -> Graph:
    """Residual blocks of 4-bit convolutions, as the engine is made for: lists, shortcuts and channel orders meet."""
    network = Network(draw(st.sampled_from(ACTIVATIONS)), (draw(st.integers(1, 40)), *draw(_extents(2, 7))))
    random = np.random.default_rng(draw(SEEDS))

    def activation(name: str, source: str, outputs: int, kernel: int, groups: int = 1) -> str:
        """A convolution, ReLU and requantization to u4; without the latter two where the name says sums."""
        value = network.values[source]
        weight = random.integers(-8, 7, (outputs, value.shape[0] // groups, kernel, kernel), endpoint=True)
        padding = Padding(*(kernel // 2,) * 4)
        sums = network.add(
            Conv2d(
                name=name,
                inputs=(source,),
                input_type=value.dtype,
                weight=Tensor.from_array(DType.S4, weight),
                bias=Tensor.from_array(DType.S16, random.integers(-200, 200, outputs)),
                padding=padding,
                groups=groups,
            )
        )
        return sums if name.endswith("sums") else narrowed(name, network.add(ReLU(name=f"{name}_relu", inputs=(sums,))))

    def narrowed(name: str, sums: str) -> str:
        spread = 15 * 2**16 / max(1, network.values[sums].magnitude)
        factor = np.clip(spread * random.uniform(1, 6, network.values[sums].shape[0]), 0, 2**16 - 1)
        return network.requantize(f"{name}_quantize", sums, DType.U4, factor.astype(np.int64), 16)

    last = activation("stem", "image", draw(st.integers(2, 70)), draw(st.sampled_from((1, 3))))
    for block in range(draw(st.integers(1, 3))):
        channels = network.values[last].shape[0]
        form = draw(st.sampled_from(("residual", "projection", "depthwise", "pool", "concat")))
        if form == "pool":
            pool = draw(st.sampled_from((MaxPool2d, AvgPool2d)))
            window = {"kernel_size": Pair(2, 2), "stride": Pair(1, 1), "padding": Padding(1, 0, 0, 1)}
            last = network.add(pool(name=f"b{block}", inputs=(last,), input_type=DType.U4, **window))
        elif form == "concat":
            # Channels that fill vectors and such that do not, some of them read twice.
            wide = draw(st.sampled_from((1, 31, 32, 33, 64)))
            others = [activation(f"b{block}_part", last, wide, draw(st.sampled_from((1, 3)))), last]
            inputs = draw(st.permutations([*others, *others[: draw(st.integers(0, 1))]]))
            last = network.add(Concat(name=f"b{block}", inputs=tuple(inputs), input_type=DType.U4))
        elif form == "depthwise":
            last = activation(f"b{block}", last, channels, 3, channels)
        else:
            outputs = channels if form == "residual" else draw(st.integers(1, 70))
            inner = activation(f"b{block}_inner", last, draw(st.integers(1, 70)), draw(st.sampled_from((1, 3))))
            sums = activation(f"b{block}_sums", inner, outputs, 1)
            if form == "residual":
                other = network.requantize(f"b{block}_rescale", last, DType.S32, random.integers(0, 99, outputs), 1)
            else:
                other = activation(f"b{block}_other_sums", last, outputs, 1)
            added = network.add(Add(name=f"b{block}_add", inputs=(sums, other)))
            last = narrowed(f"b{block}", network.add(ReLU(name=f"b{block}_relu", inputs=(added,))))
    features = int(np.prod(network.values[last].shape))
    classes = draw(st.integers(1, 40))
    weight = Tensor.from_array(DType.S8, random.integers(-128, 127, (classes, features), endpoint=True))
    network.add(Linear(name="linear", inputs=(last,), input_type=DType.U4, weight=weight))
    scale = Tensor.from_array(DType.F32, random.uniform(0.1, 9, classes).astype(np.float32))
    network.add(Scale(name="scale", inputs=("linear",), out_scale=scale))
    return network.graph(_output(draw, network))


@st.composite
def pool_networks(draw: st.DrawFn) -> Graph:
    """A pool of any size, up to the whole image, on a stored value or on the input."""
    network = Network(draw(st.sampled_from(ACTIVATIONS)), (draw(st.integers(1, 70)), *draw(_extents(1, 40))))
    dtype = draw(st.sampled_from(ACTIVATIONS))
    source = "image" if draw(st.booleans()) else copied(network, dtype)
    size = network.values[source].shape[1:]
    kernel = Pair(*(extent if draw(st.booleans()) else draw(st.integers(1, extent)) for extent in size))
    kind = draw(st.sampled_from((AvgPool2d, AvgPool2d, MaxPool2d)))
    counts = {"count_include_pad": draw(st.booleans())} if kind is AvgPool2d else {}
    network.add(
        kind(
            name="pool",
            inputs=(source,),
            input_type=network.values[source].dtype,
            kernel_size=kernel,
            stride=Pair(draw(st.integers(1, 9)), draw(st.integers(1, 9))),
            padding=Padding(*(draw(st.integers(0, kernel[side % 2] - 1)) for side in range(4))),
            ceil_mode=draw(st.booleans()),
            **counts,
        )
    )
    return network.graph()


@st.composite
def joined_networks(draw: st.DrawFn) -> Graph:
    """Values of any channel counts joined, the image perhaps among them, and a convolution that reads the result."""
    dtype = draw(st.sampled_from(ACTIVATIONS))
    network = Network(dtype, (draw(st.integers(1, 70)), *draw(_extents(1, 6))))
    random = np.random.default_rng(draw(SEEDS))
    names = ["image"]
    for index in range(draw(st.integers(1, 3))):
        channels = draw(st.sampled_from((1, 7, 31, 32, 33, 64, 65, 96)))
        weight = random.integers(-8, 7, (channels, network.values["image"].shape[0], 1, 1), endpoint=True)
        weights = Tensor.from_array(DType.S4, weight)
        sums = network.add(Conv2d(name=f"part{index}", inputs=("image",), input_type=dtype, weight=weights))
        names.append(network.add(draw(quantizes(network, f"codes{index}", sums, dtype))))
    inputs = draw(st.lists(st.sampled_from(names), min_size=2, max_size=5))
    last = network.add(Concat(name="joined", inputs=tuple(inputs), input_type=dtype))
    if draw(st.booleans()):
        inputs = draw(st.permutations([last, *inputs]))
        last = network.add(Concat(name="again", inputs=tuple(inputs), input_type=dtype))
    shape = (draw(st.integers(1, 70)), network.values[last].shape[0], 1, 1)
    weights = Tensor.from_array(DType.S4, random.integers(-8, 7, shape, endpoint=True))
    sums = network.add(Conv2d(name="conv", inputs=(last,), input_type=dtype, weight=weights))
    finish_with(draw, network, sums, None)
    return network.graph(_output(draw, network))


@st.composite
def mixed_networks(draw: st.DrawFn) -> Graph:
    """A graph of every node type with one input, of which one value, often in the middle, is the output."""
    graph = draw(graphs(max_nodes=8).filter(lambda graph: len(graph.inputs) == 1))
    return Graph(graph.inputs, graph.nodes, [draw(st.sampled_from([node.name for node in graph.nodes]))])


def finish_with(draw: st.DrawFn, network: Network, sums: str, other: str | None) -> None:
    """Add what a convolution's epilogue can hold: shortcut, ReLU, requantization; any of them may be missing."""
    if other is not None:
        try:
            if network.values[other].dtype in ACTIVATIONS:
                other = network.add(draw(quantizes(network, "rescale", other, draw(st.sampled_from(SUMS)))))
            names = (sums, other) if draw(st.booleans()) else (other, sums)
            sums = network.add(Add(name="add", inputs=names))
        except GraphError as error:
            if "32-bit limit" not in str(error):
                raise
    draw(finished(network, sums, ""))


@st.composite
def finished(draw: st.DrawFn, network: Network, sums: str, suffix: str) -> str:
    """ReLU, requantization and table after sums, any of them missing. Returns the last value: sums or codes."""
    if draw(st.booleans()):
        maximum = draw(st.one_of(st.none(), st.integers(0, 3000), st.sampled_from((0, 2**31 - 1))))
        sums = network.add(ReLU(name=f"relu{suffix}", inputs=(sums,), maximum=maximum))
    if draw(st.integers(0, 3)):
        target = draw(st.sampled_from((*ACTIVATIONS, *ACTIVATIONS, *SUMS)))
        try:
            sums = network.add(draw(quantizes(network, f"quantize{suffix}", sums, target)))
        except GraphError as error:
            if "32-bit limit" not in str(error):
                raise
    if network.values[sums].dtype in ACTIVATIONS and draw(st.booleans()):
        sums = network.add(draw(tables(network, f"table{suffix}", sums)))
    return sums


@st.composite
def tables(draw: st.DrawFn, network: Network, name: str, source: str) -> Table:
    """Any function of the codes of a value."""
    before, after = network.values[source].dtype, draw(st.sampled_from(ACTIVATIONS))
    entries = values_of(after, (before.maximum - before.minimum + 1,), draw(st.sampled_from(STYLES)), draw(SEEDS))
    table = Tensor.from_array(DType.S16, entries)
    return Table(name=name, inputs=(source,), input_type=before, output_type=after, table=table)


@st.composite
def gated_networks(draw: st.DrawFn) -> Graph:
    """A convolution's codes by a gate that is computed from them, and a convolution of the products."""
    channels, dtype = draw(st.sampled_from((5, 16, 33, 64))), draw(st.sampled_from(ACTIVATIONS))
    size = Pair(draw(st.integers(1, 6)), draw(st.integers(1, 6)))
    network = Network(dtype, (draw(st.sampled_from((3, 40))), size.rows, size.columns))
    codes = draw(_pointwise(network, "first", "image", channels))
    pooled = network.add(
        AvgPool2d(name="pool", inputs=(codes,), input_type=network.values[codes].dtype, kernel_size=size, stride=size)
    )
    gate = draw(_pointwise(network, "gate", pooled, channels)) if draw(st.booleans()) else pooled
    gate = network.add(draw(tables(network, "gate_table", gate)))
    product = network.add(Mul(name="mul", inputs=(codes, gate)))
    gated = draw(finished(network, product, "_gated"))
    if network.values[gated].dtype in SUMS:
        gated = network.add(draw(quantizes(network, "narrow", gated, draw(st.sampled_from(ACTIVATIONS)))))
    draw(_pointwise(network, "last", gated, draw(st.sampled_from((7, 64)))))
    return network.graph()


@st.composite
def _pointwise(draw: st.DrawFn, network: Network, name: str, source: str, outputs: int) -> str:
    """A 1x1 convolution to codes."""
    value = network.values[source]
    weight = Tensor.from_array(DType.S4, values_of(DType.S4, (outputs, value.shape[0], 1, 1), "random", draw(SEEDS)))
    conv = network.add(Conv2d(name=name, inputs=(source,), input_type=value.dtype, weight=weight))
    target = draw(st.sampled_from(ACTIVATIONS))
    return network.add(draw(quantizes(network, f"{name}_codes", conv, target)))


@st.composite
def quantizes(draw: st.DrawFn, network: Network, name: str, source: str, target: DType) -> Quantize:
    """Any requantization of a value; most spread what it reads over the range of the target."""
    value = network.values[source]
    kind = draw(st.sampled_from((DType.U16, DType.U16, DType.U32)))
    shift = draw(st.one_of(st.sampled_from((0, 1, 16, 17, 31)), st.integers(0, 31)))
    if draw(st.integers(0, 3)):
        typical = max(1, value.magnitude >> draw(st.integers(0, 6)))
        wanted = min(target.maximum, 1 << 16) * 2**shift / typical
        random = np.random.default_rng(draw(SEEDS)).uniform(0.5, 1.5, value.shape[:1])
        factor = Tensor.from_array(kind, np.minimum(wanted * random, kind.maximum).astype(np.int64))
    else:
        factor = draw(tensors(kind, value.shape[:1]))
    return Quantize(name=name, inputs=(source,), input_type=value.dtype, output_type=target, factor=factor, shift=shift)


@st.composite
def _extents(draw: st.DrawFn, least: int, most: int) -> tuple[int, int]:
    return draw(st.integers(least, most)), draw(st.integers(least, most))


#: How often a convolution has one group, several, or one per channel.
CHANNEL_FORMS = ("one", "one", "one", "groups", "depthwise")


@st.composite
def _channels(draw: st.DrawFn, forms: tuple[str, ...]) -> tuple[int, int, int]:
    """Groups, inputs and outputs."""
    form = draw(st.sampled_from(forms))
    if form == "depthwise":
        channels = draw(st.integers(2, 80))
        return channels, channels, channels * draw(st.sampled_from((1, 1, 2)))
    if form == "groups":
        # Those of one network, and odd ones.
        each = draw(st.sampled_from((4, 8, 16, 32, 0)))
        groups = draw(st.integers(2, 9))
        if each:
            return groups, groups * each, groups * each
        return groups, groups * draw(st.integers(1, 37)), groups * draw(st.integers(1, 37))
    counts = st.one_of(st.integers(1, 80), st.integers(1, 80), st.integers(81, 300))
    return 1, draw(counts), draw(counts)


@st.composite
def _paddings(draw: st.DrawFn, size: tuple[int, int], kernel: Pair, dilation: Pair) -> Padding:
    """Four sides, now and then wider than the window; the last ones make the window fit."""
    wide = draw(st.integers(0, 4)) == 0
    top, left, bottom, right = (draw(st.integers(0, 9 if wide else 3)) for _ in range(4))
    bottom += max(0, dilation.rows * (kernel.rows - 1) + 1 - size[0] - top - bottom)
    right += max(0, dilation.columns * (kernel.columns - 1) + 1 - size[1] - left - right)
    return Padding(top, left, bottom, right)


@st.composite
def _biases(draw: st.DrawFn, outputs: int) -> Tensor | None:
    kind = draw(st.sampled_from((None, DType.S16, DType.S32)))
    if kind is None:
        return None
    if kind is DType.S16:
        return draw(tensors(kind, (outputs,)))
    # Far from 2**31, so that a sum of two convolutions and a shortcut still fits.
    random = np.random.default_rng(draw(SEEDS))
    bound = 1 << draw(st.integers(0, 28))
    return Tensor.from_array(kind, random.integers(-bound, bound, outputs, endpoint=True))


def _output(draw: st.DrawFn, network: Network) -> str:
    """Mostly the last value; else one in the middle, which must then be stored although a later node reads it."""
    names = [node.name for node in network.nodes]
    return names[-1] if draw(st.integers(0, 3)) else draw(st.sampled_from(names))
