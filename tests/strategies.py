"""Drawn graphs and inputs: every node type, odd shapes, extreme values; valid by construction."""

from __future__ import annotations

from collections.abc import Callable

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
from nybble.graph.infer import infer
from nybble.graph.types import ACTIVATIONS, SUMS, Array

#: How a drawn tensor's values lie in their type's range.
STYLES = ("random", "small", "extreme", "lowest", "highest", "sparse")
SUM_MAX = 2**31 - 1


def values_of(dtype: DType, shape: tuple[int, ...], style: str, seed: int) -> Array:
    """Integers of a type, in its storage dtype: uniform, near zero, only at the bounds, or mostly zero."""
    random = np.random.default_rng(seed)
    low, high = dtype.minimum, dtype.maximum
    if style == "small":
        low, high = max(low, -2), min(high, 2)
    values = random.integers(low, high, shape, dtype=np.int64, endpoint=True)
    if style == "extreme":
        values = np.where(random.random(shape) < 0.5, low, high)
    elif style == "lowest":
        values = np.full(shape, low)
    elif style == "highest":
        values = np.full(shape, high)
    elif style == "sparse":
        values = np.where(random.random(shape) < 0.7, 0, values)
    return values.astype(dtype.storage)


@st.composite
def tensors(draw: st.DrawFn, dtype: DType, shape: tuple[int, ...]) -> Tensor:
    """A constant integer tensor."""
    style = draw(st.sampled_from(STYLES))
    return Tensor.from_array(dtype, values_of(dtype, shape, style, draw(st.integers(0, 2**32 - 1))))


@st.composite
def batches(draw: st.DrawFn, entry: Input, max_batch: int = 3) -> Array:
    """Values of an input: (N, *shape) in its storage dtype."""
    style = draw(st.sampled_from(STYLES))
    shape = (draw(st.integers(1, max_batch)), *entry.shape)
    return values_of(entry.dtype, shape, style, draw(st.integers(0, 2**32 - 1)))


@st.composite
def graphs(draw: st.DrawFn, max_nodes: int = 10, max_channels: int = 9, max_extent: int = 9) -> Graph:
    """A graph of 1 to ``max_nodes`` nodes with branches, several outputs and one or two inputs.

    A step whose worst case would pass 32 bits is left out, which keeps those just below.
    """
    extents = st.integers(1, max_extent)
    inputs = [
        Input(
            name=f"image{position}",
            dtype=draw(st.sampled_from(ACTIVATIONS)),
            shape=(draw(st.integers(1, max_channels)), draw(extents), draw(extents)),
        )
        for position in range(draw(st.sampled_from((1, 1, 1, 2))))
    ]
    values = {entry.name: ValueType(entry.dtype, entry.shape, entry.dtype.magnitude) for entry in inputs}
    nodes: list[Node] = []
    wanted = draw(st.integers(1, max_nodes))
    # Every name can be read again, but a chain is likelier than a bush.
    for step in range(3 * max_nodes):
        if len(nodes) == wanted:
            break
        readable = [name for name, value in values.items() if not value.dtype.is_float]
        source = draw(st.sampled_from([*readable[-2:], readable[-1], *readable]))
        makers = _makers(values[source])
        node = draw(st.sampled_from(makers))(draw, f"n{step}", source, values, max_channels)
        try:
            values[node.name] = infer(node, [values[name] for name in node.inputs])
        except GraphError as error:
            if "32-bit limit" in str(error):
                continue
            raise
        nodes.append(node)
    if not nodes:
        nodes.append(_quantize_to(draw, "only", inputs[0].name, values, DType.S4, DType.U16))
        values["only"] = infer(nodes[0], [values[inputs[0].name]])
    names = [node.name for node in nodes]
    further = draw(st.lists(st.sampled_from(list(values)), max_size=2, unique=True))
    return Graph(inputs, nodes, [names[-1], *(name for name in further if name != names[-1])])


Maker = Callable[[st.DrawFn, str, str, dict[str, ValueType], int], Node]


def _makers(value: ValueType) -> list[Maker]:
    if value.dtype in SUMS:
        return [_relu, _quantize, _quantize, _add, _scale]
    further = [_table, _mul]
    if len(value.shape) == 3:
        if value.shape[1:] != (1, 1):
            # Gates come of these.
            further.append(_mean)
        return [_conv, _conv, _conv, _max_pool, _average_pool, _concat, _linear, _quantize, *further]
    return [_linear, _concat, _quantize, *further]


def _conv(draw: st.DrawFn, name: str, source: str, values: dict[str, ValueType], max_channels: int) -> Node:
    channels, rows, columns = values[source].shape
    groups = draw(st.sampled_from([count for count in range(1, channels + 1) if channels % count == 0]))
    outputs = groups * draw(st.integers(1, max(1, max_channels // groups)))
    dilation = Pair(draw(st.integers(1, 2)), draw(st.integers(1, 2)))
    padding = Padding(*(draw(st.integers(0, 2)) for _ in range(4)))
    kernel = Pair(
        _kernel(draw, rows + padding.top + padding.bottom, dilation.rows),
        _kernel(draw, columns + padding.left + padding.right, dilation.columns),
    )
    shape = (outputs, channels // groups, *kernel)
    return Conv2d(
        name=name,
        inputs=(source,),
        input_type=values[source].dtype,
        weight=draw(tensors(draw(st.sampled_from((DType.S4, DType.S8))), shape)),
        bias=_bias(draw, outputs),
        stride=Pair(draw(st.integers(1, 3)), draw(st.integers(1, 3))),
        padding=padding,
        dilation=dilation,
        groups=groups,
    )


def _linear(draw: st.DrawFn, name: str, source: str, values: dict[str, ValueType], max_channels: int) -> Node:
    outputs = draw(st.integers(1, max_channels))
    shape = (outputs, int(np.prod(values[source].shape)))
    return Linear(
        name=name,
        inputs=(source,),
        input_type=values[source].dtype,
        weight=draw(tensors(draw(st.sampled_from((DType.S4, DType.S8))), shape)),
        bias=_bias(draw, outputs),
    )


def _bias(draw: st.DrawFn, outputs: int) -> Tensor | None:
    dtype = draw(st.sampled_from((None, DType.S16, DType.S16, DType.S32)))
    return None if dtype is None else draw(tensors(dtype, (outputs,)))


def _kernel(draw: st.DrawFn, size: int, dilation: int) -> int:
    return draw(st.integers(1, min(3, (size - 1) // dilation + 1)))


def _pool_window(draw: st.DrawFn, size: int, dilation: int) -> tuple[int, int, int]:
    """A kernel and the padding before and after, such that every window holds a sample."""
    kernel = draw(st.integers(1, min(3, (size - 1) // dilation + 1)))
    # A dilated window that starts in the padding could step over an image smaller than the dilation.
    span = dilation * (kernel - 1) if size >= dilation else 0
    return kernel, draw(st.integers(0, span)), draw(st.integers(0, span))


def _max_pool(draw: st.DrawFn, name: str, source: str, values: dict[str, ValueType], max_channels: int) -> Node:
    _, rows, columns = values[source].shape
    dilation = Pair(draw(st.integers(1, 2)), draw(st.integers(1, 2)))
    height, top, bottom = _pool_window(draw, rows, dilation.rows)
    width, left, right = _pool_window(draw, columns, dilation.columns)
    return MaxPool2d(
        name=name,
        inputs=(source,),
        input_type=values[source].dtype,
        kernel_size=Pair(height, width),
        stride=Pair(draw(st.integers(1, 3)), draw(st.integers(1, 3))),
        padding=Padding(top, left, bottom, right),
        dilation=dilation,
        ceil_mode=draw(st.booleans()),
    )


def _average_pool(draw: st.DrawFn, name: str, source: str, values: dict[str, ValueType], max_channels: int) -> Node:
    _, rows, columns = values[source].shape
    height, top, bottom = _pool_window(draw, rows, 1)
    width, left, right = _pool_window(draw, columns, 1)
    return AvgPool2d(
        name=name,
        inputs=(source,),
        input_type=values[source].dtype,
        kernel_size=Pair(height, width),
        stride=Pair(draw(st.integers(1, 3)), draw(st.integers(1, 3))),
        padding=Padding(top, left, bottom, right),
        ceil_mode=draw(st.booleans()),
        count_include_pad=draw(st.booleans()),
    )


def _relu(draw: st.DrawFn, name: str, source: str, values: dict[str, ValueType], max_channels: int) -> Node:
    maximum = draw(st.one_of(st.none(), st.integers(0, 3000), st.sampled_from((0, 1, SUM_MAX))))
    declared = draw(st.sampled_from((DType.S32, values[source].dtype)))
    return ReLU(name=name, inputs=(source,), input_type=declared, maximum=maximum)


def _quantize(draw: st.DrawFn, name: str, source: str, values: dict[str, ValueType], max_channels: int) -> Node:
    target = draw(st.sampled_from((*ACTIVATIONS, *ACTIVATIONS, *SUMS)))
    return _quantize_to(draw, name, source, values, target, draw(st.sampled_from((DType.U16, DType.U16, DType.U32))))


def _quantize_to(
    draw: st.DrawFn, name: str, source: str, values: dict[str, ValueType], target: DType, factor: DType
) -> Quantize:
    return Quantize(
        name=name,
        inputs=(source,),
        input_type=values[source].dtype,
        output_type=target,
        factor=draw(tensors(factor, values[source].shape[:1])),
        shift=draw(st.one_of(st.sampled_from((0, 1, 16, 31)), st.integers(0, 31))),
    )


def _add(draw: st.DrawFn, name: str, source: str, values: dict[str, ValueType], max_channels: int) -> Node:
    alike = [other for other, value in values.items() if value.dtype in SUMS and value.shape == values[source].shape]
    return Add(name=name, inputs=(source, draw(st.sampled_from(alike))))


def _concat(draw: st.DrawFn, name: str, source: str, values: dict[str, ValueType], max_channels: int) -> Node:
    kind = values[source]
    alike = [
        other for other, value in values.items() if value.dtype is kind.dtype and value.shape[1:] == kind.shape[1:]
    ]
    others = draw(st.lists(st.sampled_from(alike), min_size=1, max_size=2))
    inputs = draw(st.permutations([source, *others]))
    return Concat(name=name, inputs=tuple(inputs), input_type=kind.dtype)


def _table(draw: st.DrawFn, name: str, source: str, values: dict[str, ValueType], max_channels: int) -> Node:
    before, after = values[source].dtype, draw(st.sampled_from(ACTIVATIONS))
    style, seed = draw(st.sampled_from(STYLES)), draw(st.integers(0, 2**32 - 1))
    entries = values_of(after, (before.maximum - before.minimum + 1,), style, seed)
    return Table(
        name=name,
        inputs=(source,),
        input_type=before,
        output_type=after,
        table=Tensor.from_array(DType.S16, entries),
        function=draw(st.sampled_from(("", "SiLU"))),
    )


def _mul(draw: st.DrawFn, name: str, source: str, values: dict[str, ValueType], max_channels: int) -> Node:
    shape = values[source].shape
    # A gate is likelier where there is one.
    gates = [other for other, value in values.items() if len(shape) == 3 and value.shape == (shape[0], 1, 1)]
    alike = [other for other, value in values.items() if value.shape == shape]
    others = [other for other in (*gates, *gates, *alike) if values[other].dtype in ACTIVATIONS]
    return Mul(name=name, inputs=(source, draw(st.sampled_from(others))))


def _mean(draw: st.DrawFn, name: str, source: str, values: dict[str, ValueType], max_channels: int) -> Node:
    kind = values[source]
    window = Pair(kind.shape[1], kind.shape[2])
    return AvgPool2d(name=name, inputs=(source,), input_type=kind.dtype, kernel_size=window, stride=window)


def _scale(draw: st.DrawFn, name: str, source: str, values: dict[str, ValueType], max_channels: int) -> Node:
    channels = values[source].shape[0]
    scales = st.floats(0.0009765625, 1e6, width=32).flatmap(lambda scale: st.sampled_from((scale, -scale)))
    drawn = draw(st.lists(scales, min_size=channels, max_size=channels))
    return Scale(name=name, inputs=(source,), out_scale=Tensor.from_array(DType.F32, np.array(drawn, np.float32)))
