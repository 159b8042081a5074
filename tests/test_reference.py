"""The reference against plain Python loops over drawn graphs, worked examples, and the published network."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import assume, given

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
    Preprocessing,
    Quantize,
    ReLU,
    Scale,
    Tensor,
    read_graph,
)
from nybble.graph.ops import conv2d, quantize
from nybble.graph.types import ACTIVATIONS, Array
from nybble.images import LabelledFolder, batches, integer_input
from nybble.reference import interpret

SUM_MAX = 2**31 - 1


# ---------------------------------------------------------------------------------------------------------------------
# The same definitions once more, one sample at a time.


def loop_conv(node: Conv2d, image: Array) -> Array:
    weight = node.weight.numpy().tolist()
    out_channels, group_channels, kernel_rows, kernel_columns = node.weight.shape
    _, rows, columns = image.shape
    height = padded_extent(rows, node.padding.top, node.padding.bottom, node.dilation.rows, kernel_rows)
    width = padded_extent(columns, node.padding.left, node.padding.right, node.dilation.columns, kernel_columns)
    result = np.zeros((out_channels, height // node.stride.rows + 1, width // node.stride.columns + 1), np.int64)
    for k, y, x in np.ndindex(*result.shape):
        first = k // (out_channels // node.groups) * group_channels
        total = int(node.bias.numpy()[k]) if node.bias is not None else 0
        for c, r, s in itertools.product(range(group_channels), range(kernel_rows), range(kernel_columns)):
            row = y * node.stride.rows - node.padding.top + r * node.dilation.rows
            column = x * node.stride.columns - node.padding.left + s * node.dilation.columns
            if 0 <= row < rows and 0 <= column < columns:
                total += weight[k][c][r][s] * int(image[first + c, row, column])
        result[k, y, x] = total
    return result


def padded_extent(size: int, before: int, after: int, dilation: int, kernel: int) -> int:
    """Last index, without stride, at which a window can start."""
    return size + before + after - dilation * (kernel - 1) - 1


def loop_windows(node: MaxPool2d | AvgPool2d, pool: Array) -> list[list[tuple[int, int]]]:
    """Row and column of every tap of every window, in order, those in padding included; ``pool`` is the output."""
    dilation = node.dilation if isinstance(node, MaxPool2d) else Pair(1, 1)
    windows = []
    for y, x in np.ndindex(*pool.shape[1:]):
        top = y * node.stride.rows - node.padding.top
        left = x * node.stride.columns - node.padding.left
        windows.append(
            [
                (top + r * dilation.rows, left + s * dilation.columns)
                for r in range(node.kernel_size.rows)
                for s in range(node.kernel_size.columns)
            ]
        )
    return windows


def loop_pool(node: MaxPool2d | AvgPool2d, image: Array, like: Array) -> Array:
    _, rows, columns = image.shape
    result = np.zeros(like.shape, np.int64).reshape(like.shape[0], -1)
    for index, taps in enumerate(loop_windows(node, like)):
        inside = [(r, c) for r, c in taps if 0 <= r < rows and 0 <= c < columns]
        # In ceil mode a window may go beyond the padding.
        padded = [(r, c) for r, c in taps if r < rows + node.padding.bottom and c < columns + node.padding.right]
        for channel in range(image.shape[0]):
            samples = [int(image[channel, r, c]) for r, c in inside]
            if isinstance(node, MaxPool2d):
                result[channel, index] = max(samples)
            else:
                count = len(padded) if node.count_include_pad else len(inside)
                result[channel, index] = math.floor(Fraction(sum(samples), count) + Fraction(1, 2))
    return result.reshape(like.shape)


def loop_quantize(node: Quantize, values: Array) -> Array:
    result = np.zeros(values.shape, np.int64)
    for index in np.ndindex(*values.shape):
        product = int(values[index]) * int(node.factor.numpy()[index[0]])
        if node.shift:
            size = math.floor(Fraction(abs(product), 2**node.shift) + Fraction(1, 2))
            product = size if product >= 0 else -size
        result[index] = min(max(product, node.output_type.minimum), node.output_type.maximum)
    return result


# ---------------------------------------------------------------------------------------------------------------------
# Drawn graphs.


def draw_array(draw: st.DrawFn, dtype: DType, shape: tuple[int, ...]) -> Array:
    """Values of a type, often its extremes."""
    value = st.one_of(st.sampled_from([dtype.minimum, dtype.maximum]), st.integers(dtype.minimum, dtype.maximum))
    count = math.prod(shape)
    flat = draw(st.lists(value, min_size=count, max_size=count))
    return np.array(flat, dtype=dtype.storage).reshape(shape)


def draw_batch(draw: st.DrawFn, dtype: DType, shape: tuple[int, ...]) -> Array:
    return draw_array(draw, dtype, (draw(st.integers(1, 2)), *shape))


pairs = st.builds(Pair, st.integers(1, 3), st.integers(1, 3))
paddings = st.builds(Padding, *[st.integers(0, 3)] * 4)
images = st.tuples(st.integers(1, 6), st.integers(1, 6))


def single(node: Node, dtype: DType, shape: tuple[int, ...]) -> Graph:
    """A graph of one node; drawn attributes that fit no such input are drawn again."""
    try:
        return Graph([Input(name="x", dtype=dtype, shape=shape)], [node], [node.name])
    except GraphError:
        assume(False)
        raise


@given(st.data())
def test_convolution_equals_loops(data: st.DataObject) -> None:
    draw = data.draw
    groups, per_group, out_per_group = (draw(st.integers(1, 3)) for _ in range(3))
    kernel = draw(pairs)
    weight_type, input_type = draw(st.sampled_from([DType.S4, DType.S8])), draw(st.sampled_from(ACTIVATIONS))
    out_channels = groups * out_per_group
    bias_type = draw(st.sampled_from([None, DType.S16]))
    node = Conv2d(
        name="y",
        inputs=("x",),
        input_type=input_type,
        weight=Tensor.from_array(weight_type, draw_array(draw, weight_type, (out_channels, per_group, *kernel))),
        bias=None if bias_type is None else Tensor.from_array(bias_type, draw_array(draw, bias_type, (out_channels,))),
        stride=draw(pairs),
        padding=draw(paddings),
        dilation=draw(pairs),
        groups=groups,
    )
    graph = single(node, input_type, (groups * per_group, *draw(images)))
    batch = draw_batch(draw, input_type, graph.inputs[0].shape)
    result = interpret(graph, batch)["y"]
    assert result.dtype == np.int32
    assert result.shape == (len(batch), *graph.values["y"].shape)
    for image, sums in zip(batch, result, strict=True):
        np.testing.assert_array_equal(sums, loop_conv(node, image))


@given(st.data())
def test_pools_equal_loops(data: st.DataObject) -> None:
    draw = data.draw
    dtype = draw(st.sampled_from(ACTIVATIONS))
    kernel_size, stride = draw(pairs), draw(pairs)
    ceil_mode, is_maximum = draw(st.booleans()), draw(st.booleans())
    dilation = draw(pairs) if is_maximum else Pair(1, 1)
    # More padding than a window spans is refused.
    reach = [st.integers(0, step * (count - 1)) for step, count in zip(dilation, kernel_size, strict=True)]
    padding = draw(st.builds(Padding, *reach, *reach))
    node: MaxPool2d | AvgPool2d
    if is_maximum:
        node = MaxPool2d(
            name="y",
            inputs=("x",),
            input_type=dtype,
            kernel_size=kernel_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
            ceil_mode=ceil_mode,
        )
    else:
        node = AvgPool2d(
            name="y",
            inputs=("x",),
            input_type=dtype,
            kernel_size=kernel_size,
            stride=stride,
            padding=padding,
            ceil_mode=ceil_mode,
            count_include_pad=draw(st.booleans()),
        )
    graph = single(node, dtype, (2, *draw(images)))
    batch = draw_batch(draw, dtype, graph.inputs[0].shape)
    result = interpret(graph, batch)["y"]
    assert result.dtype == dtype.storage
    assert result.shape == (len(batch), *graph.values["y"].shape)
    for image, pooled in zip(batch, result, strict=True):
        np.testing.assert_array_equal(pooled, loop_pool(node, image, pooled))


@given(st.data())
def test_quantize_equals_loops(data: st.DataObject) -> None:
    draw = data.draw
    source = draw(st.sampled_from([*ACTIVATIONS]))
    target = draw(st.sampled_from([*ACTIVATIONS, DType.S32, DType.U31]))
    factor_type = draw(st.sampled_from([DType.U16, DType.U32]))
    node = Quantize(
        name="y",
        inputs=("x",),
        input_type=source,
        output_type=target,
        factor=Tensor.from_array(factor_type, draw_array(draw, factor_type, (3,))),
        shift=draw(st.sampled_from([0, 1, 4, 10, 16, 31])),
    )
    graph = single(node, source, (3, 2, 2))
    batch = draw_batch(draw, source, (3, 2, 2))
    result = interpret(graph, batch)["y"]
    assert result.dtype == target.storage
    for image, quantized in zip(batch, result, strict=True):
        np.testing.assert_array_equal(quantized, loop_quantize(node, image))


@given(st.data())
def test_quantize_of_sums_equals_loops(data: st.DataObject) -> None:
    """Sums at the bounds of 32 bits and the largest factors: a 1x1 convolution puts the drawn numbers there."""
    draw = data.draw
    value = st.one_of(st.sampled_from([SUM_MAX - 8, 8 - SUM_MAX, 2**24 + 1, 0]), st.integers(8 - SUM_MAX, SUM_MAX - 8))
    sums = draw(st.lists(value, min_size=4, max_size=4))
    target = draw(st.sampled_from(ACTIVATIONS))
    shift, factor = draw(st.integers(0, 31)), draw(st.sampled_from([1, 3, 65535, 2**32 - 1]))
    node = Quantize(
        name="y",
        inputs=("sum",),
        input_type=DType.S32,
        output_type=target,
        factor=Tensor.from_array(DType.U32, np.full(4, factor, np.uint32)),
        shift=shift,
    )
    graph = Graph([Input(name="x", dtype=DType.S4, shape=(1, 1, 1))], [constants(sums), node], ["y"])
    result = interpret(graph, np.ones((1, 1, 1, 1), np.int8), keep=["sum"])
    assert result["sum"].ravel().tolist() == [total + 1 for total in sums]
    np.testing.assert_array_equal(result["y"][0], loop_quantize(node, result["sum"][0]))


def test_concat_copies_one_channel_after_the_other() -> None:
    image = Input(name="x", dtype=DType.S8, shape=(2, 1, 2))
    pool = MaxPool2d(name="y", inputs=("x",), input_type=DType.S8, kernel_size=Pair(1, 1), stride=Pair(1, 1))
    joined = Concat(name="z", inputs=("y", "x", "y"), input_type=DType.S8)
    result = interpret(Graph([image], [pool, joined], ["z"]), np.array([[[[1, -2]], [[3, -128]]]]))["z"]
    assert result.dtype == np.int8
    assert result.tolist() == [[[[1, -2]], [[3, -128]]] * 3]


def constants(sums: list[int], name: str = "sum") -> Conv2d:
    """A convolution that adds its s4 input to each of ``sums``."""
    return Conv2d(
        name=name,
        inputs=("x",),
        input_type=DType.S4,
        weight=Tensor.from_array(DType.S4, np.ones((len(sums), 1, 1, 1), np.int8)),
        bias=Tensor.from_array(DType.S32, np.array(sums, np.int32)),
    )


# ---------------------------------------------------------------------------------------------------------------------
# Worked examples and bounds.


@pytest.mark.parametrize(
    ("value", "factor", "shift", "target", "expected"),
    [
        (3, 1, 1, DType.S8, 2),  # 1.5: ties go away from zero
        (-3, 1, 1, DType.S8, -2),
        (-1, 1, 1, DType.S8, -1),
        (1, 1, 2, DType.S8, 0),  # 0.25
        (-5, 7, 0, DType.S8, -35),  # shift 0 leaves the product alone
        (100, 9, 0, DType.S8, 127),
        (-100, 9, 0, DType.S8, -128),
        (-100, 9, 0, DType.U4, 0),
        (100, 1, 0, DType.U4, 15),
        (-100, 1, 0, DType.S4, -8),
        (SUM_MAX - 8, 2**32 - 1, 31, DType.U8, 255),
        (32768, 1, 16, DType.U4, 1),
        (32767, 1, 16, DType.U4, 0),
        (-SUM_MAX + 8, 1, 0, DType.U31, 0),
    ],
)
def test_quantize_examples(value: int, factor: int, shift: int, target: DType, expected: int) -> None:
    node = Quantize(
        name="y",
        inputs=("sum",),
        input_type=DType.S32,
        output_type=target,
        factor=Tensor.from_array(DType.U32, np.array([factor], np.uint32)),
        shift=shift,
    )
    graph = Graph([Input(name="x", dtype=DType.S4, shape=(1, 1, 1))], [constants([value]), node], ["y"])
    assert interpret(graph, np.zeros((1, 1, 1, 1), np.int64))["y"].item() == expected


def test_average_rounds_halves_up_whatever_the_sign() -> None:
    node = AvgPool2d(name="y", inputs=("x",), input_type=DType.S8, kernel_size=Pair(1, 2), stride=Pair(1, 2))
    graph = Graph([Input(name="x", dtype=DType.S8, shape=(1, 1, 6))], [node], ["y"])
    batch = np.array([[[[1, 2, -1, -2, -128, -127]]]])
    assert interpret(graph, batch)["y"].ravel().tolist() == [2, -1, -127]


def test_average_in_ceil_mode_counts_as_pytorch_does() -> None:
    """A window that runs past the padding is divided by the part of it that does not."""
    for include, expected in ((True, [8, 24, 21]), (False, [32, 32, 32])):
        node = AvgPool2d(
            name="y",
            inputs=("x",),
            input_type=DType.U8,
            kernel_size=Pair(1, 4),
            stride=Pair(1, 2),
            padding=Padding(0, 3, 0, 1),
            ceil_mode=True,
            count_include_pad=include,
        )
        graph = Graph([Input(name="x", dtype=DType.U8, shape=(1, 1, 3))], [node], ["y"])
        # Windows start at -3, -1 and 1; the last one is cut at the padded extent of 4: samples 1, 2 and one padding.
        batch = np.array([[[[32, 32, 32]]]])
        assert interpret(graph, batch)["y"].ravel().tolist() == expected


def test_padding_never_wins_a_maximum() -> None:
    node = MaxPool2d(
        name="y",
        inputs=("x",),
        input_type=DType.S4,
        kernel_size=Pair(3, 3),
        stride=Pair(1, 1),
        padding=Padding(2, 2, 2, 2),
    )
    graph = Graph([Input(name="x", dtype=DType.S4, shape=(1, 1, 1))], [node], ["y"])
    assert (interpret(graph, np.full((1, 1, 1, 1), -5))["y"] == -5).all()


def test_a_window_that_steps_over_the_image_is_refused() -> None:
    node = MaxPool2d(
        name="y",
        inputs=("x",),
        input_type=DType.S4,
        kernel_size=Pair(2, 1),
        stride=Pair(1, 1),
        padding=Padding(2, 0, 2, 0),
        dilation=Pair(3, 1),
    )
    with pytest.raises(GraphError, match="nothing but padding"):
        Graph([Input(name="x", dtype=DType.S4, shape=(1, 1, 1))], [node], ["y"])


def test_sums_beyond_float32_stay_exact() -> None:
    """2**24 + 1 is the first integer that float32 lacks."""
    count = 2**24 // (255 * 127) + 1
    weight = np.full((1, count), 127, np.int8)
    node = Linear(name="y", inputs=("x",), input_type=DType.U8, weight=Tensor.from_array(DType.S8, weight))
    graph = Graph([Input(name="x", dtype=DType.U8, shape=(count,))], [node], ["y"])
    batch = np.random.default_rng(0).integers(0, 256, (3, count))
    batch[0] = 255
    assert interpret(graph, batch)["y"].ravel().tolist() == (batch.sum(axis=1) * 127).tolist()


def test_sums_at_the_32_bit_limit() -> None:
    """Accumulator, shortcut, ReLU and Scale at +-(2**31 - 1)."""
    big = SUM_MAX - 8
    nodes: list[Node] = [
        constants([big, -big]),
        constants([0, 0], "small"),
        ReLU(name="relu", inputs=("sum",)),
        ReLU(name="capped", inputs=("sum",), maximum=5),
        Scale(name="logits", inputs=("sum",), out_scale=Tensor.from_array("f32", np.array([3.0, -7.0]))),
    ]
    graph = Graph([Input(name="x", dtype=DType.S4, shape=(1, 1, 1))], nodes, ["logits"])
    result = interpret(graph, np.full((1, 1, 1, 1), 7), keep=None)
    assert result["sum"].ravel().tolist() == [SUM_MAX - 1, -SUM_MAX + 15]
    assert result["relu"].ravel().tolist() == [SUM_MAX - 1, 0]
    assert result["capped"].ravel().tolist() == [5, 0]
    expected = np.array([SUM_MAX - 1, -SUM_MAX + 15]).astype(np.float32) / np.array([3, -7], np.float32)
    np.testing.assert_array_equal(result["logits"].ravel(), expected)
    assert result["logits"].dtype == np.float32


def test_add_at_the_32_bit_limit() -> None:
    half = SUM_MAX // 2 - 8
    nodes = [constants([half, -half]), constants([half, -half], "other"), Add(name="y", inputs=("sum", "other"))]
    graph = Graph([Input(name="x", dtype=DType.S4, shape=(1, 1, 1))], nodes, ["y"])
    result = interpret(graph, np.zeros((1, 1, 1, 1), np.int8))["y"]
    assert result.dtype == np.int32
    assert result.ravel().tolist() == [2 * half, -2 * half]


def test_linear_reads_images_flat() -> None:
    weight = np.arange(-8, 4, dtype=np.int8).reshape(1, 12)
    node = Linear(
        name="y",
        inputs=("x",),
        input_type=DType.U4,
        weight=Tensor.from_array(DType.S4, weight),
        bias=Tensor.from_array(DType.S32, np.array([100])),
    )
    graph = Graph([Input(name="x", dtype=DType.U4, shape=(3, 2, 2))], [node], ["y"])
    batch = np.arange(12).reshape(1, 3, 2, 2)
    assert interpret(graph, batch)["y"].item() == 100 + sum(a * b for a, b in zip(range(-8, 4), range(12), strict=True))


def test_blocks_of_rows_and_channels_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    convolution = Conv2d(
        name="sum",
        inputs=("x",),
        input_type=DType.U4,
        weight=Tensor.from_array(DType.S4, rng.integers(-8, 8, (6, 2, 3, 3))),
        stride=Pair(2, 1),
        padding=Padding(1, 1, 1, 1),
        groups=2,
    )
    factor = Tensor.from_array(DType.U16, rng.integers(0, 2**16, 6))
    requantize = Quantize(
        name="y", inputs=("sum",), input_type=DType.S32, output_type=DType.S8, factor=factor, shift=16
    )
    graph = Graph([Input(name="x", dtype=DType.U4, shape=(4, 9, 7))], [convolution, requantize], ["y"])
    batch = rng.integers(0, 16, (2, 4, 9, 7))
    whole = interpret(graph, batch)["y"]
    monkeypatch.setattr(conv2d, "_WINDOW_ELEMENTS", 600)
    monkeypatch.setattr(quantize, "_QUANTIZE_ELEMENTS", 80)
    np.testing.assert_array_equal(interpret(graph, batch)["y"], whole)


# ---------------------------------------------------------------------------------------------------------------------
# What is asked for, and what is refused.


def two_inputs() -> Graph:
    def plain(name: str, source: str) -> Conv2d:
        weight = Tensor.from_array(DType.S4, np.full((1, 1, 1, 1), 2, np.int8))
        return Conv2d(name=name, inputs=(source,), input_type=DType.U4, weight=weight)

    return Graph(
        [Input(name="a", dtype=DType.U4, shape=(1, 2, 2)), Input(name="b", dtype=DType.U4, shape=(1, 2, 2))],
        [plain("c", "a"), plain("d", "b"), Add(name="e", inputs=("c", "c")), Add(name="f", inputs=("e", "d"))],
        ["f", "a"],
    )


def test_values_are_returned_as_asked() -> None:
    graph = two_inputs()
    ones = np.ones((2, 1, 2, 2), np.uint8)
    inputs = {"a": ones, "b": 3 * ones}
    assert list(interpret(graph, inputs)) == ["a", "f"]
    assert list(interpret(graph, inputs, keep=["d", "f"])) == ["a", "d", "f"]
    everything = interpret(graph, inputs, keep=None)
    assert list(everything) == ["a", "b", "c", "d", "e", "f"]
    assert (everything["f"] == 10).all()
    assert interpret(graph, {"a": ones[:0], "b": ones[:0]})["f"].shape == (0, 1, 2, 2)


def test_wrong_input_is_refused() -> None:
    graph = two_inputs()
    ones = np.ones((2, 1, 2, 2), np.uint8)
    for inputs, message in (
        (ones, "2 inputs"),
        ({"a": ones}, r"expected inputs \['a', 'b'\], got \['a'\]"),
        ({"a": ones, "b": ones, "c": ones}, "got"),
        ({"a": ones, "b": ones.astype(np.float32)}, "must be integers of shape \\(N, 1, 2, 2\\), got float32"),
        ({"a": ones, "b": ones[0]}, r"got uint8 of shape \(1, 2, 2\)"),
        ({"a": ones, "b": ones * 16}, r"expected 0..15, got 16..16"),
        ({"a": ones, "b": ones.astype(np.int8) * -1}, r"expected 0..15, got -1"),
        ({"a": ones, "b": ones[:1]}, "batch size"),
    ):
        with pytest.raises(ValueError, match=message):
            interpret(graph, inputs)
    with pytest.raises(ValueError, match="no value named 'z'"):
        interpret(graph, {"a": ones, "b": ones}, keep=["z"])


# ---------------------------------------------------------------------------------------------------------------------
# The published network on photos.


@pytest.mark.data
def test_published_network_answers_as_the_t4_did(shared_data: Path) -> None:
    graph = read_graph(shared_data / "nvidia-resnet50-int4")
    preprocessing = graph.preprocessing or Preprocessing()
    photos = LabelledFolder(shared_data / "imagenet-val-10", classes=1000)
    assert len(photos) == 10
    for samples, entries in batches(photos, preprocessing, batch=5):
        logits = interpret(graph, integer_input(samples, preprocessing))[graph.outputs[0]]
        assert logits.argmax(axis=1).tolist() == [int(entry.extra["t4_prediction"]) for entry in entries]
