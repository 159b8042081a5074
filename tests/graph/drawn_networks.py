"""Networks as a quantizer would make them, drawn from a seed: all operations and types, ranges fitted to inputs.

Requantizations are fitted to what the network computes on a batch of drawn inputs, so that codes fill their types, and
the logits of each class are brought to one mean and one deviation, so that all classes occur. A network of arbitrary
numbers would answer one class whatever an export does.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from nybble.graph import (
    Add,
    AvgPool2d,
    Concat,
    Conv2d,
    DType,
    Graph,
    Input,
    Linear,
    MaxPool2d,
    Node,
    Padding,
    Pair,
    Quantize,
    ReLU,
    Scale,
    Tensor,
    ValueType,
)
from nybble.graph.infer import infer, infer_input
from nybble.graph.types import ACTIVATIONS, Array
from nybble.reference import compute

CLASSES = 10
#: Layers of a network, the last one included.
FEWEST, MOST = 4, 12


@dataclass
class Drawn:
    """A network, inputs that its ranges were not fitted to, and its answers to those that they were fitted to."""

    graph: Graph
    inputs: Array
    logits: Array
    layers: int


@dataclass
class _Drawer:
    random: np.random.Generator
    dtypes: tuple[DType, ...]
    values: dict[str, ValueType] = field(default_factory=dict)
    arrays: dict[str, Array] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    #: Activations that later layers may read, latest last.
    open: list[str] = field(default_factory=list)

    def add(self, node: Node) -> str:
        types = [self.values[name] for name in node.inputs]
        self.values[node.name] = infer(node, types)
        self.arrays[node.name] = compute(node, types, [self.arrays[name] for name in node.inputs])
        self.nodes.append(node)
        return node.name

    def one_of(self, options: tuple[int, ...] | list[int]) -> int:
        return options[int(self.random.integers(len(options)))]

    def maybe(self, part: float) -> bool:
        return bool(self.random.random() < part)

    def dtype(self) -> DType:
        return self.dtypes[int(self.random.integers(len(self.dtypes)))]


def draw(seed: int, dtypes: tuple[DType, ...] = ACTIVATIONS, operation: str | None = None, count: int = 64) -> Drawn:
    """A network of 4 to 12 layers and ``count`` inputs.

    Parameters
    ----------
    seed : int
    dtypes : tuple of DType
        Of activations.
    operation : str, optional
        One of :data:`LAYERS` that must occur at least twice.
    count : int
    """
    # Some networks answer next to nothing but one class: they would agree whatever an export does.
    for attempt in range(100):
        found = _drawn(np.random.default_rng((seed, attempt)), dtypes, operation, count)
        classes = found.logits.argmax(axis=1)
        if len(np.unique(classes)) >= CLASSES // 2:
            return found
    raise AssertionError(f"seed {seed}: no network of several classes in 100 attempts")


def _drawn(random: np.random.Generator, dtypes: tuple[DType, ...], operation: str | None, count: int) -> Drawn:
    drawer = _Drawer(random, dtypes)
    extents = [int(size) for size in random.integers(7, 15, 2)]
    entry = Input(name="image", dtype=drawer.dtype(), shape=(drawer.one_of([1, 3, 3, 4]), *extents))
    images = _images(random, entry, 2 * count)
    drawer.values["image"], drawer.arrays["image"] = infer_input(entry), images[:count]
    drawer.open.append("image")
    layers = int(random.integers(FEWEST, MOST + 1))
    names = list(LAYERS)
    wanted = [] if operation is None else [operation] * 2
    for index in range(layers - 1):
        name = wanted.pop() if wanted and index else names[int(random.integers(len(names)))]
        LAYERS[name](drawer, f"{name}{index}")
    _classify(drawer)
    graph = Graph([entry], drawer.nodes, ["logits"])
    return Drawn(graph, images[count:], drawer.arrays["logits"], layers)


def _images(random: np.random.Generator, entry: Input, count: int) -> Array:
    """Smooth patterns with noise, in the input's type."""
    channels, rows, columns = entry.shape
    coarse = random.normal(size=(count, channels, -(-rows // 4), -(-columns // 4)))
    smooth = coarse.repeat(4, axis=2).repeat(4, axis=3)[:, :, :rows, :columns]
    values = smooth + 0.5 * random.normal(size=(count, *entry.shape))
    dtype = entry.dtype
    middle, size = (0.0, dtype.maximum / 2) if dtype.is_signed else (dtype.maximum / 2, dtype.maximum / 4)
    codes = np.clip(np.rint(middle + size * values), dtype.minimum, dtype.maximum)
    return codes.astype(dtype.storage)


# Parts of layers


def _weight(drawer: _Drawer, shape: tuple[int, ...]) -> Tensor:
    dtype = DType.S4 if drawer.maybe(0.6) else DType.S8
    values = drawer.random.normal(size=shape) * dtype.maximum / 2.5
    return Tensor.from_array(dtype, np.clip(np.rint(values), dtype.minimum, dtype.maximum).astype(np.int8))


def _bias(drawer: _Drawer, sums: Array) -> Tensor | None:
    """A bias of the size of the sums, or none."""
    if drawer.maybe(0.2):
        return None
    size = float(np.std(sums)) * 0.7 + 1
    values = np.rint(drawer.random.normal(size=sums.shape[1]) * size)
    dtype = DType.S16 if np.abs(values).max() < 32768 and drawer.maybe(0.7) else DType.S32
    return Tensor.from_array(dtype, values.astype(np.int64))


def _conv(drawer: _Drawer, name: str, source: str, outputs: int | None = None, same: bool = False) -> str:
    """A convolution of any geometry; ``same`` keeps rows and columns."""
    channels, rows, columns = drawer.values[source].shape
    kernel = Pair(*(drawer.one_of([k for k in (1, 1, 3, 3, 5) if k <= size + 2]) for size in (rows, columns)))
    depthwise = channels > 1 and outputs is None and drawer.maybe(0.3)
    groups = channels if depthwise else drawer.one_of([1, 1, 1, 2]) if channels % 2 == 0 else 1
    outputs = outputs if outputs is not None else channels if depthwise else drawer.one_of([4, 6, 8, 13, 16])
    if outputs % groups:
        groups = 1
    dilation = Pair(
        *(
            2 if k == 3 and size >= 7 and drawer.maybe(0.2) else 1
            for k, size in zip(kernel, (rows, columns), strict=True)
        )
    )
    reach = [step * (extent - 1) for step, extent in zip(dilation, kernel, strict=True)]
    padding = Padding(reach[0] // 2, reach[1] // 2, reach[0] - reach[0] // 2, reach[1] - reach[1] // 2)
    stride = Pair(1, 1)
    if not same:
        if drawer.maybe(0.3) and min(rows, columns) >= 4:
            stride = Pair(drawer.one_of([1, 2]), drawer.one_of([1, 2]))
        if drawer.maybe(0.2) and reach[0] < rows and reach[1] < columns:
            padding = Padding()
    node = Conv2d(
        name=name,
        inputs=(source,),
        input_type=drawer.values[source].dtype,
        weight=_weight(drawer, (outputs, channels // groups, *kernel)),
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )
    types = [drawer.values[source]]
    bias = _bias(drawer, compute(node, types, [drawer.arrays[source]]))
    return drawer.add(
        Conv2d(
            name=name,
            inputs=node.inputs,
            input_type=node.input_type,
            weight=node.weight,
            bias=bias,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
        )
    )


def _relu(drawer: _Drawer, name: str, source: str, part: float = 0.6) -> str:
    if not drawer.maybe(part):
        return source
    maximum = int(np.quantile(drawer.arrays[source], 0.97)) if drawer.maybe(0.3) else None
    declared = drawer.values[source].dtype
    return drawer.add(
        ReLU(
            name=name,
            inputs=(source,),
            input_type=declared,
            maximum=None if maximum is None or maximum < 1 else maximum,
        )
    )


def _factors(drawer: _Drawer, ratio: Array) -> tuple[Tensor, int]:
    """Factors and a shift: 16 in half of the cases, else any that holds the ratios to 2**-6 or better."""
    top = float(ratio.max())
    shifts = [s for s in range(32) if 64 <= top * 2**s < 65535.5]
    shift = 16 if 16 in shifts and drawer.maybe(0.5) else drawer.one_of(shifts or [0])
    factors = np.clip(np.rint(ratio * 2.0**shift), 1, 65535).astype(np.int64)
    return Tensor.from_array(DType.U16 if drawer.maybe(0.9) else DType.U32, factors), shift


def _quantize(drawer: _Drawer, name: str, source: str, dtype: DType | None = None) -> str:
    """Codes that fill their type on the inputs at hand, each channel with steps of its own."""
    dtype = dtype or drawer.dtype()
    found = np.abs(drawer.arrays[source].astype(np.float64))
    spread = np.quantile(found.reshape(len(found), found.shape[1], -1), 0.99, axis=(0, 2))
    spread = np.maximum(spread, 1.0) * np.exp(drawer.random.uniform(-0.3, 0.3, len(spread)))
    factor, shift = _factors(drawer, dtype.maximum / spread)
    declared = drawer.values[source].dtype
    return drawer.add(
        Quantize(name=name, inputs=(source,), input_type=declared, output_type=dtype, factor=factor, shift=shift)
    )


def _into_sum(drawer: _Drawer, name: str, source: str, like: str) -> str:
    """A stored value as a sum about as large as another one."""
    size, wanted = (float(np.std(drawer.arrays[value])) + 1e-3 for value in (source, like))
    channels = drawer.values[source].shape[0]
    ratio = np.maximum(wanted, 1.0) / size * np.exp(drawer.random.uniform(-0.2, 0.2, channels))
    factor, shift = _factors(drawer, np.clip(ratio, 1e-4, 60000))
    kind = drawer.values[source].dtype
    target = DType.S32 if kind.is_signed or drawer.maybe(0.5) else DType.U31
    return drawer.add(
        Quantize(name=name, inputs=(source,), input_type=kind, output_type=target, factor=factor, shift=shift)
    )


def _image(drawer: _Drawer) -> str:
    return drawer.open[-1] if drawer.maybe(0.8) else drawer.open[int(drawer.random.integers(len(drawer.open)))]


# Layers


def _conv_layer(drawer: _Drawer, name: str) -> None:
    made = _conv(drawer, name, _image(drawer))
    drawer.open.append(_quantize(drawer, f"{name}_q", _relu(drawer, f"{name}_relu", made)))


def _residual_layer(drawer: _Drawer, name: str) -> None:
    """A convolution and a shortcut: stored, or requantized and widened again as NVIDIA's projections are."""
    source = _image(drawer)
    channels = drawer.values[source].shape[0]
    made = _conv(drawer, name, source, channels, same=True)
    shortcut = source
    if drawer.maybe(0.3):
        projected = _conv(drawer, f"{name}_down", source, channels, same=True)
        shortcut = _quantize(drawer, f"{name}_down_q", projected)
    widened = _into_sum(drawer, f"{name}_short", shortcut, made)
    inputs = (made, widened) if drawer.maybe(0.5) else (widened, made)
    total = drawer.add(Add(name=f"{name}_add", inputs=inputs))
    drawer.open.append(_quantize(drawer, f"{name}_q", _relu(drawer, f"{name}_relu", total)))


def _window(drawer: _Drawer, size: int) -> tuple[int, int, int]:
    kernel = drawer.one_of([k for k in (1, 2, 2, 3, 3, 4) if k <= size])
    most = kernel // 2
    return kernel, int(drawer.random.integers(0, most + 1)), int(drawer.random.integers(0, most + 1))


def _max_layer(drawer: _Drawer, name: str) -> None:
    source = _image(drawer)
    _, rows, columns = drawer.values[source].shape
    (height, top, bottom), (width, left, right) = _window(drawer, rows), _window(drawer, columns)
    drawer.open.append(
        drawer.add(
            MaxPool2d(
                name=name,
                inputs=(source,),
                input_type=drawer.values[source].dtype,
                kernel_size=Pair(height, width),
                stride=Pair(drawer.one_of([1, 1, 2]), drawer.one_of([1, 1, 2])),
                padding=Padding(top, left, bottom, right),
                ceil_mode=drawer.maybe(0.3),
            )
        )
    )


def _average_layer(drawer: _Drawer, name: str) -> None:
    source = _image(drawer)
    _, rows, columns = drawer.values[source].shape
    (height, top, bottom), (width, left, right) = _window(drawer, rows), _window(drawer, columns)
    drawer.open.append(
        drawer.add(
            AvgPool2d(
                name=name,
                inputs=(source,),
                input_type=drawer.values[source].dtype,
                kernel_size=Pair(height, width),
                stride=Pair(drawer.one_of([1, 1, 2]), drawer.one_of([1, 1, 2])),
                padding=Padding(top, left, bottom, right),
                ceil_mode=drawer.maybe(0.2) and not (top or left or bottom or right),
                count_include_pad=drawer.maybe(0.5),
            )
        )
    )


def _concat_layer(drawer: _Drawer, name: str) -> None:
    """Two branches of one type, or a value and one branch."""
    source = _image(drawer)
    dtype = drawer.values[source].dtype if drawer.maybe(0.5) else drawer.dtype()
    parts = [source] if drawer.values[source].dtype is dtype else []
    while len(parts) < 2 or (len(parts) < 3 and drawer.maybe(0.2)):
        label = f"{name}_{len(parts)}"
        made = _conv(drawer, label, source, drawer.one_of([3, 4, 8]), same=True)
        parts.append(_quantize(drawer, f"{label}_q", _relu(drawer, f"{label}_relu", made, 0.4), dtype))
    drawer.open.append(drawer.add(Concat(name=name, inputs=tuple(parts), input_type=dtype)))


def _requantize_layer(drawer: _Drawer, name: str) -> None:
    """Codes in another type and other steps: directly, or by way of a sum and a ReLU."""
    source = _image(drawer)
    if drawer.maybe(0.5):
        drawer.open.append(_quantize(drawer, name, source))
        return
    lifted = _into_sum(drawer, f"{name}_sum", source, source)
    drawer.open.append(_quantize(drawer, name, _relu(drawer, f"{name}_relu", lifted)))


LAYERS = {
    "conv": _conv_layer,
    "residual": _residual_layer,
    "max": _max_layer,
    "average": _average_layer,
    "concat": _concat_layer,
    "requantize": _requantize_layer,
}


def _classify(drawer: _Drawer) -> None:
    """An average over the image or none, a linear layer, and logits of one mean and deviation for every class."""
    source = drawer.open[-1]
    channels, rows, columns = drawer.values[source].shape
    if channels * rows * columns > 1024 or drawer.maybe(0.5):
        source = drawer.add(
            AvgPool2d(
                name="mean",
                inputs=(source,),
                input_type=drawer.values[source].dtype,
                kernel_size=Pair(rows, columns),
                stride=Pair(rows, columns),
            )
        )
    features = int(np.prod(drawer.values[source].shape))
    node = Linear(
        name="fc",
        inputs=(source,),
        input_type=drawer.values[source].dtype,
        weight=_weight(drawer, (CLASSES, features)),
    )
    sums = compute(node, [drawer.values[source]], [drawer.arrays[source]])
    bias = Tensor.from_array(DType.S32, -np.rint(sums.mean(axis=0)).astype(np.int64))
    fc = drawer.add(Linear(name="fc", inputs=(source,), input_type=node.input_type, weight=node.weight, bias=bias))
    scale = np.maximum(drawer.arrays[fc].std(axis=0), 1.0).astype(np.float32)
    drawer.add(Scale(name="logits", inputs=(fc,), out_scale=Tensor.from_array(DType.F32, scale)))
