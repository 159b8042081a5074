"""Inference: shapes against brute force, magnitudes that are reached, and what each node refuses."""

from __future__ import annotations

from dataclasses import replace

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

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
from nybble.graph.ops.windows import output_extent
from nybble.graph.types import SUM_LIMIT
from nybble.reference import interpret
from strategies import batches, graphs

IMAGE = ValueType(DType.U4, (4, 6, 5), 15)
SUMS = ValueType(DType.S32, (4, 6, 5), 1000)


def tensor(dtype: DType, shape: tuple[int, ...], value: int = 1) -> Tensor:
    return Tensor.from_array(dtype, np.full(shape, value))


def conv(**changes: object) -> Conv2d:
    node = Conv2d(
        name="conv",
        inputs=("x",),
        input_type=DType.U4,
        weight=tensor(DType.S4, (6, 2, 3, 3), -8),
        bias=tensor(DType.S16, (6,), -5),
        groups=2,
    )
    return replace(node, **changes)  # type: ignore[arg-type]


def linear(**changes: object) -> Linear:
    node = Linear(name="fc", inputs=("x",), input_type=DType.U4, weight=tensor(DType.S8, (3, 120), -128))
    return replace(node, **changes)  # type: ignore[arg-type]


def quantize(**changes: object) -> Quantize:
    node = Quantize(
        name="q",
        inputs=("x",),
        input_type=DType.S32,
        output_type=DType.U4,
        factor=tensor(DType.U16, (4,), 3),
        shift=4,
    )
    return replace(node, **changes)  # type: ignore[arg-type]


def concat(*inputs: str) -> Concat:
    return Concat(name="joined", inputs=inputs, input_type=DType.U4)


def pool(kind: type[MaxPool2d] | type[AvgPool2d], **changes: object) -> Node:
    node = kind(name="pool", inputs=("x",), input_type=DType.U4, kernel_size=Pair(3, 2), stride=Pair(2, 1))
    return replace(node, **changes)  # type: ignore[arg-type]


def test_types_shapes_and_magnitudes() -> None:
    assert infer(conv(), [IMAGE]) == ValueType(DType.S32, (6, 4, 3), 15 * 8 * 18 + 5)
    assert infer(linear(), [IMAGE]) == ValueType(DType.S32, (3,), 15 * 128 * 120)
    assert infer(ReLU(name="r", inputs=("x",)), [SUMS]) == ValueType(DType.U31, (4, 6, 5), 1000)
    assert infer(ReLU(name="r", inputs=("x",), maximum=7), [SUMS]).magnitude == 7
    assert infer(quantize(), [SUMS]) == ValueType(DType.U4, (4, 6, 5), 15)
    assert infer(quantize(output_type=DType.S32), [SUMS]).magnitude == (3000 + 8) >> 4
    assert infer(quantize(output_type=DType.S32, shift=0), [SUMS]).magnitude == 3000
    assert infer(pool(MaxPool2d), [IMAGE]) == ValueType(DType.U4, (4, 2, 4), 15)
    assert infer(pool(AvgPool2d, ceil_mode=True), [IMAGE]) == ValueType(DType.U4, (4, 3, 4), 15)
    assert infer(Add(name="a", inputs=("x", "y")), [SUMS, SUMS]) == ValueType(DType.S32, (4, 6, 5), 2000)
    small = ValueType(DType.U4, (2, 6, 5), 3)
    assert infer(concat("x", "y", "y"), [small, IMAGE, IMAGE]) == ValueType(DType.U4, (10, 6, 5), 15)
    assert infer(concat("x", "x"), [small, small]).magnitude == 3
    scale = Scale(name="s", inputs=("x",), out_scale=tensor(DType.F32, (4,)))
    assert infer(scale, [SUMS]) == ValueType(DType.F32, (4, 6, 5), 0)
    assert str(IMAGE) == "u4[4x6x5]"


@given(
    size=st.integers(1, 12),
    kernel=st.integers(1, 5),
    stride=st.integers(1, 4),
    before=st.integers(0, 4),
    after=st.integers(0, 4),
    dilation=st.integers(1, 3),
    ceil_mode=st.booleans(),
)
def test_output_extent_counts_windows(
    size: int, kernel: int, stride: int, before: int, after: int, dilation: int, ceil_mode: bool
) -> None:
    reach = dilation * (kernel - 1)
    if ceil_mode:
        # What pools, which alone have the mode, allow.
        before, after = min(before, reach), min(after, reach)
    fitting = [start for start in range(-before, size + after, stride) if start + reach < size + after]
    expected = len(fitting)
    if ceil_mode and expected:
        # One more, where something is left over and it starts before the padding after the image.
        start = fitting[-1] + stride
        expected += start < size and fitting[-1] + reach != size + after - 1
    if size + before + after > reach:
        assert output_extent(size, kernel, stride, before, after, dilation, ceil_mode) == expected
    else:
        assert output_extent(size, kernel, stride, before, after, dilation, False) < 1


@given(data=st.data())
def test_no_value_passes_its_magnitude(data: st.DataObject) -> None:
    graph = data.draw(graphs(max_nodes=6))
    batch = {entry.name: data.draw(batches(entry, max_batch=1)) for entry in graph.inputs}
    for name, value in interpret(graph, batch, keep=None).items():
        known = graph.values[name]
        assert value.shape == (1, *known.shape)
        if not known.dtype.is_float:
            assert np.abs(value.astype(np.int64)).max() <= known.magnitude <= SUM_LIMIT


@pytest.mark.parametrize(
    ("node", "inputs", "field", "message"),
    [
        (conv(), [SUMS], "compute_mode", "is declared to read u4, but x is s32"),
        (conv(input_type=DType.S32), [SUMS], "compute_mode", "Conv2d cannot read s32"),
        (conv(), [IMAGE, IMAGE], "inputs", "reads 1 value"),
        (conv(), [replace(IMAGE, shape=(4,))], "inputs", "reads images"),
        (conv(weight=tensor(DType.S16, (6, 2, 3, 3))), [IMAGE], "weight", "weights cannot be s16"),
        (conv(weight=tensor(DType.S4, (6, 2, 9))), [IMAGE], "weight", "needs 4 dimensions"),
        (conv(groups=4), [IMAGE], "groups", "does not divide 6"),
        (conv(groups=0), [IMAGE], "groups", "does not divide 6"),
        (conv(groups=3), [IMAGE], "weight", "takes 6 channels, but x has 4"),
        (conv(bias=tensor(DType.S8, (6,))), [IMAGE], "bias", "bias cannot be s8"),
        (conv(bias=tensor(DType.S16, (5,))), [IMAGE], "bias", "has 5 biases for 6"),
        (conv(stride=Pair(0, 1)), [IMAGE], "stride", "not in 1.."),
        (conv(dilation=Pair(1, 0)), [IMAGE], "dilation", "not in 1.."),
        (conv(padding=Padding(0, 0, -1, 0)), [IMAGE], "padding", "not in 0.."),
        (conv(dilation=Pair(3, 1)), [IMAGE], "kernel_size", "does not fit"),
        (linear(weight=tensor(DType.S8, (3, 119))), [IMAGE], "weight", "takes 119 features, but x has 120"),
        (ReLU(name="r", inputs=("x",)), [IMAGE], "compute_mode", "declared to read s32, but x is u4"),
        (ReLU(name="r", inputs=("x",), maximum=-1), [SUMS], "maximum", "not in 0.."),
        (quantize(output_type=DType.F32), [SUMS], "compute_mode", "cannot quantize to f32"),
        (quantize(shift=32), [SUMS], "shift_bits", "not in 0..31"),
        (quantize(factor=tensor(DType.S16, (4,))), [SUMS], "requant_factor", "factors cannot be s16"),
        (quantize(factor=tensor(DType.U16, (3,))), [SUMS], "requant_factor", "has 3 factors, but x has 4"),
        (pool(MaxPool2d, padding=Padding(3, 0, 0, 0)), [IMAGE], "padding", "nothing but padding"),
        (pool(AvgPool2d, padding=Padding(0, 0, 0, 2)), [IMAGE], "padding", "nothing but padding"),
        (pool(AvgPool2d, input_type=DType.S32), [SUMS], "compute_mode", "AvgPool2d cannot read s32"),
        (Add(name="a", inputs=("x", "y")), [SUMS, IMAGE], "inputs", "cannot add u4"),
        (Add(name="a", inputs=("x", "y")), [SUMS, replace(SUMS, shape=(4,))], "inputs", "the shapes differ"),
        (Add(name="a", inputs=("x",)), [SUMS], "inputs", "reads 2 value"),
        (concat("x"), [IMAGE], "inputs", "reads 2 or more value"),
        (concat("x", "y"), [IMAGE, SUMS], "compute_mode", "declared to join u4, but y is s32"),
        (concat("x", "y"), [IMAGE, replace(IMAGE, shape=(4, 6, 6))], "inputs", "differ in more than channels"),
        (concat("x", "y"), [IMAGE, replace(IMAGE, shape=(4,))], "inputs", "differ in more than channels"),
        (replace(concat("x", "y"), input_type=DType.S32), [SUMS, SUMS], "compute_mode", "declared to join s32"),
        (Scale(name="s", inputs=("x",), out_scale=tensor(DType.F32, (3,))), [SUMS], "out_scale", "has 3 scales"),
        (Scale(name="s", inputs=("x",), out_scale=tensor(DType.F32, (4,), 0)), [SUMS], "out_scale", "holds zero"),
        (Scale(name="s", inputs=("x",), out_scale=tensor(DType.S32, (4,))), [SUMS], "out_scale", "not f32"),
        (Scale(name="s", inputs=("x",), out_scale=tensor(DType.F32, (4,))), [IMAGE], "inputs", "cannot scale u4"),
    ],
)
def test_refused(node: Node, inputs: list[ValueType], field: str, message: str) -> None:
    with pytest.raises(GraphError, match=message) as caught:
        infer(node, inputs)
    assert (caught.value.node, caught.value.field) == (node.name, field)


@pytest.mark.parametrize("shape", [(), (0,), (3, 4), (1, 2, 3, 4), (3, 0, 4), (1, 65537, 1), (65536, 65536, 65536)])
def test_absurd_inputs(shape: tuple[int, ...]) -> None:
    with pytest.raises(GraphError, match="is not one or three extents"):
        infer_input(Input(name="x", dtype=DType.U4, shape=shape))


def test_the_limit_of_sums_is_exact() -> None:
    bias = SUM_LIMIT - 15 * 8
    weight = tensor(DType.S4, (1, 1, 1, 1), -8)
    image = ValueType(DType.U4, (1, 1, 1), 15)
    reaching = conv(weight=weight, bias=tensor(DType.S32, (1,), -bias), groups=1)
    assert infer(reaching, [image]).magnitude == SUM_LIMIT
    with pytest.raises(GraphError, match="conv: its worst case reaches 2147483648, beyond the 32-bit limit"):
        infer(replace(reaching, bias=tensor(DType.S32, (1,), bias + 1)), [image])
    half = ValueType(DType.S32, (1,), SUM_LIMIT // 2 + 1)
    with pytest.raises(GraphError, match="a: its worst case"):
        infer(Add(name="a", inputs=("x", "x")), [half, half])


def test_a_graph_orders_and_names_its_values() -> None:
    image = Input(name="x", dtype=DType.U4, shape=(4, 6, 5))
    nodes = [conv(), ReLU(name="r", inputs=("conv",)), Add(name="a", inputs=("conv", "conv"))]
    graph = Graph([image], nodes, ["a", "x"])
    assert list(graph.values) == ["x", "conv", "r", "a"]
    assert [node.name for node in graph.consumers()["conv"]] == ["r", "a", "a"]
    assert graph.consumers()["a"] == []
    assert graph["r"] is nodes[1] and len(graph) == 3
    assert str(graph).splitlines() == [
        "x: u4[4x6x5] = input",
        "conv: s32[6x4x3] = Conv2d(x)",
        "r: u31[6x4x3] = ReLU(conv)",
        "a: s32[6x4x3] = Add(conv, conv)",
        "return a, x",
    ]
    assert repr(graph) == "<Graph: 3 nodes, inputs ['x'], outputs ['a', 'x']>"


@pytest.mark.parametrize(
    ("inputs", "nodes", "outputs", "message"),
    [
        ([], [], ["x"], "has no input"),
        (["x"], [], [], "has no output"),
        (["x", "x"], [], ["x"], "x: the name is defined twice"),
        (["x"], [("x", "x")], ["x"], "x: the name is defined twice"),
        (["x"], [("r", "x"), ("r", "x")], ["r"], "r: the name is defined twice"),
        (["x"], [("r", "s"), ("s", "r")], ["r"], "r: reads 's', which is defined only later"),
        (["x"], [("r", "r")], ["r"], "r: reads 'r', which is defined only later"),
        (["x"], [("r", "y")], ["r"], "r: reads 'y', which is not defined"),
        (["x"], [("r", "x")], ["y"], "output 'y' is not defined"),
    ],
)
def test_graphs_that_cannot_be(
    inputs: list[str], nodes: list[tuple[str, str]], outputs: list[str], message: str
) -> None:
    entries = [Input(name=name, dtype=DType.U4, shape=(4,)) for name in inputs]
    made = [
        Quantize(
            name=name,
            inputs=(source,),
            input_type=DType.U4,
            output_type=DType.U4,
            factor=tensor(DType.U16, (4,)),
            shift=0,
        )
        for name, source in nodes
    ]
    with pytest.raises(GraphError, match=message):
        Graph(entries, made, outputs)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a", "b"], "2 class names, but the output has 4 channels"),
        (["a", "b", " ", "d"], "class name ' ' is empty"),
        (["a", "b", "c\nd", "d"], "no single line"),
        (["a", "b", "c", "\ud800"], "no single line"),
    ],
)
def test_class_names_that_do_not_fit(names: list[str], message: str) -> None:
    with pytest.raises(GraphError, match=message) as caught:
        Graph([Input(name="x", dtype=DType.U4, shape=(4,))], [], ["x"], class_names=names)
    assert caught.value.field == "class_names"
