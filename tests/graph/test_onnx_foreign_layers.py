"""Layers of QDQ models in the places and with the operands that other tools give them, against ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from qdq_networks import Net, assert_same_codes

from nybble.graph.onnx import OnnxImportError, from_onnx

OUT = 0.05
#: Scales by channel, as NNCF gives them to what a depthwise layer reads.
BY_CHANNEL = np.array([0.011, 0.02, 0.017, 0.013, 0.024, 0.019])

# Scales by channel

READERS: dict[str, Callable[[Net, str], str]] = {
    "depthwise": lambda net, x: net.conv(x, 6, 6, group=6),
    "depthwise with two a channel": lambda net, x: net.conv(x, 12, 6, group=6, strides=[2, 2]),
    "grouped": lambda net, x: net.conv(x, 6, 6, group=2),
    "dense": lambda net, x: net.conv(x, 5, 6, 1),
    "max pool": lambda net, x: net.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2]),
    "global max pool": lambda net, x: net.node("GlobalMaxPool", x),
    "average pool": lambda net, x: net.node("AveragePool", x, kernel_shape=[3, 3], strides=[2, 2]),
    "uncounted padding": lambda net, x: net.node("AveragePool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    "mean": lambda net, x: net.node("GlobalAveragePool", x),
    "relu": lambda net, x: net.node("Relu", x),
    "clip": lambda net, x: net.node("Clip", x, net.constant(-0.5), net.constant(0.7)),
    "add": lambda net, x: net.node("Add", x, net.qdq(net.conv("first", 6, 6, 1), 0.02)),
    "add to a sum": lambda net, x: net.node("Add", net.conv("first", 6, 6, 1), x),
    "concat": lambda net, x: net.node("Concat", x, net.qdq(net.conv("first", 6, 6, 1), 0.02), axis=1),
    "batch normalization": lambda net, x: _normalized(net, x, 6),
    "features": lambda net, x: net.node(
        "MatMul", net.node("Flatten", net.node("GlobalMaxPool", x)), net.weight(6, 5, axis=1)
    ),
    "nothing": lambda net, x: x,
}


@pytest.mark.parametrize("kind", ["s8", "u8"])
@pytest.mark.parametrize("reader", READERS)
def test_scales_by_channel(reader: str, kind: str) -> None:
    net = Net(seed=2)
    first = net.qdq(net.conv(net.input(), 6, 4), 0.02)
    net.nodes.append(_renamed(net, first, "first"))
    value = net.qdq(net.conv("first", 6, 6, 1), BY_CHANNEL, kind)
    value = net.qdq(READERS[reader](net, value), OUT)
    # Two roundings of earlier layers may meet.
    most = 0.15 if reader in ("dense", "grouped", "features", "uncounted padding") else 0.05
    # ONNX Runtime's integer kernels fail with scales by channel.
    made = assert_same_codes(net.model(value), net.photos(), OUT, most=most, by=2, levels=(False,))
    is_common = any(entry.what == "scales" for entry in made.roundings)
    assert is_common == (reader in ("dense", "grouped", "features"))


def _renamed(net: Net, value: str, name: str) -> Any:
    from onnx import helper

    return helper.make_node("Identity", [value], [name], name=name)


@pytest.mark.parametrize("reader", ["depthwise", "relu", "max pool", "mean"])
def test_results_with_scales_by_channel(reader: str) -> None:
    net = Net(seed=2)
    value = net.node("Identity", net.qdq(net.conv(net.input(), 6, 4), BY_CHANNEL))
    value = net.qdq(READERS[reader](net, value), BY_CHANNEL * 1.7, "u8")
    assert_same_codes(net.model(value), net.photos(), np.float32(BY_CHANNEL * 1.7), most=0.05)


# BatchNormalization and what else is affine


def _normalized(net: Net, value: str, channels: int, gain: Any = None) -> str:
    gains = net.rng.uniform(0.5, 2, channels) if gain is None else gain
    names = [net.constant(gains)]
    names += [net.constant(net.rng.normal(size=channels) * 0.3) for _ in range(2)]
    return net.node("BatchNormalization", value, *names, net.constant(net.rng.uniform(0.3, 2, channels)))


def _mixed(net: Net, channels: int, shape: tuple[int, ...]) -> str:
    return net.constant((net.rng.uniform(0.5, 1.5, channels) * np.where(np.arange(channels) % 3, 1, -1)).reshape(shape))


AFFINE: dict[str, Callable[[Net, str, int, tuple[int, ...]], str]] = {
    "bn": lambda net, x, c, s: _normalized(net, x, c),
    "bn turned": lambda net, x, c, s: _normalized(net, x, c, np.linspace(-1.5, 1.5, c)),
    "bn pruned": lambda net, x, c, s: _normalized(net, x, c, np.where(np.arange(c) % 2, 1.0, 0.0)),
    "bn twice": lambda net, x, c, s: _normalized(net, _normalized(net, x, c), c),
    "mul add": lambda net, x, c, s: net.node("Add", net.node("Mul", x, _mixed(net, c, s)), _mixed(net, c, s)),
    "add mul": lambda net, x, c, s: net.node("Mul", _mixed(net, c, s), net.node("Add", _mixed(net, c, s), x)),
    "sub div": lambda net, x, c, s: net.node("Div", net.node("Sub", x, _mixed(net, c, s)), _mixed(net, c, s)),
    "const - x": lambda net, x, c, s: net.node("Sub", _mixed(net, c, s), x),
    "neg": lambda net, x, c, s: net.node("Neg", x),
    "one number": lambda net, x, c, s: net.node("Mul", net.node("Add", x, net.constant(0.3)), net.constant([-0.7])),
    "identity": lambda net, x, c, s: net.node("Identity", net.node("Sub", net.node("Identity", x), _mixed(net, c, s))),
}
BEFORE: dict[str, Callable[[Net, str], str]] = {
    "conv": lambda net, x: net.conv(x, 6, 6),
    "conv without bias": lambda net, x: net.conv(x, 6, 6, bias=False),
    "depthwise": lambda net, x: net.conv(x, 6, 6, group=6),
    "activation": lambda net, x: x,
    "max pool": lambda net, x: net.node("MaxPool", x, kernel_shape=[2, 2]),
    "read twice": lambda net, x: _twice(net, net.conv(x, 6, 6)),
}


def _twice(net: Net, value: str) -> str:
    """Another reader, whose values may not change."""
    net.nodes.append(_renamed(net, net.qdq(net.node("Relu", value), 0.04), "second"))
    return value


@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("affine", AFFINE)
def test_affine_behind(affine: str, before: str) -> None:
    net = Net((6, 8, 8), seed=4)
    value = AFFINE[affine](net, BEFORE[before](net, net.input()), 6, (6, 1, 1))
    if before == "read twice":
        value = net.node("Add", value, "second")
    value = net.qdq(net.node("Relu", value), OUT)
    assert_same_codes(net.model(value), net.photos(), OUT, most=0.03)


@pytest.mark.parametrize("affine", AFFINE)
def test_affine_behind_a_matrix_product(affine: str) -> None:
    net = Net((6, 4, 4), seed=4)
    value = net.node("MatMul", net.node("Flatten", net.input()), net.weight(96, 12, axis=1))
    value = net.qdq(AFFINE[affine](net, value, 12, (1, 12)), OUT)
    # When it optimises, ONNX Runtime quantizes what such a product reads once more.
    assert_same_codes(net.model(value), net.photos(60), OUT, most=0.03, levels=(False,))


@pytest.mark.parametrize("order", ["relu", "pool", "add", "clip"])
def test_affine_in_the_middle(order: str) -> None:
    net = Net((6, 8, 8), seed=4)
    first = net.input()
    value = net.conv(first, 6, 6)
    if order == "relu":
        value = AFFINE["mul add"](net, _positive(net, net.node("Relu", value)), 6, (6, 1, 1))
    elif order == "pool":
        value = net.node("MaxPool", _normalized(net, value, 6), kernel_shape=[2, 2], strides=[2, 2])
    elif order == "add":
        value = _normalized(net, net.node("Add", value, net.conv(first, 6, 6)), 6, np.linspace(-1, 1, 6))
    else:
        value = net.node("Clip", value, net.constant(-0.4), net.constant(0.9))
        value = net.node("Add", net.node("Mul", value, net.constant(1.7)), net.constant(0.2))
    assert_same_codes(net.model(net.qdq(value, OUT)), net.photos(), OUT, most=0.03)


def _positive(net: Net, value: str) -> str:
    return net.node("Add", net.node("Mul", value, net.constant(1.3)), net.constant(-0.2))


@pytest.mark.parametrize("limit", [7, 8, 127, 128])
def test_weights_whose_signs_are_turned(limit: int) -> None:
    """-8 turns into 8, which takes 8 bits; -128 has no other sign there, which is reported."""
    net = Net(seed=4)
    integers = net.rng.integers(-limit, min(limit, 127), (6, 4, 3, 3))
    integers[0, 0, 0, 0] = -limit
    scale, zero = net.constant(np.full(6, 0.5 / limit)), net.constant(np.zeros(6), np.int8)
    weight = net.node("DequantizeLinear", net.constant(integers, np.int8), scale, zero, axis=0)
    value = net.qdq(net.node("Neg", net.node("Conv", net.input(), weight)), OUT)
    made = assert_same_codes(net.model(value), net.photos(), OUT, most=0.03)
    assert any(entry.what == "weight" for entry in made.roundings) == (limit == 128)


# Pools of what is not quantized

SOURCES: dict[str, Callable[[Net, str], str]] = {
    "sum": lambda net, x: net.conv(x, 6, 4),
    "relu": lambda net, x: net.node("Relu", net.conv(x, 6, 4)),
    "relu6": lambda net, x: net.node("Clip", net.conv(x, 6, 4), net.constant(0.0), net.constant(1.0)),
    "bn": lambda net, x: net.node("Relu", _normalized(net, net.conv(x, 6, 4, bias=False), 6)),
    "added": lambda net, x: net.node("Add", net.conv(x, 6, 4), net.qdq(net.conv(x, 6, 4), 0.02)),
    "activation": lambda net, x: net.qdq(net.conv(x, 6, 4), 0.02),
}
POOLS: dict[str, Callable[[Net, str], str]] = {
    "max": lambda net, x: net.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    "global max": lambda net, x: net.node("GlobalMaxPool", x),
    "max relu": lambda net, x: net.node("Relu", net.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])),
    "max max": lambda net, x: net.node(
        "MaxPool", net.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2]), kernel_shape=[2, 2]
    ),
    "average": lambda net, x: net.node("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2]),
    "padded average": lambda net, x: net.node(
        "AveragePool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1
    ),
    "mean": lambda net, x: net.node("GlobalAveragePool", x),
    "reduced max": lambda net, x: net.node("ReduceMax", x, axes=[-1, -2], keepdims=0),
    "reduced": lambda net, x: net.node("ReduceMean", x, axes=[2, 3], keepdims=0),
    "mean flattened": lambda net, x: net.node("Flatten", net.node("GlobalAveragePool", x)),
    "concat": lambda net, x: net.node("Concat", x, net.node("Relu", x), axis=1),
    "concat of maxima": lambda net, x: net.node(
        "Concat", net.node("MaxPool", x, kernel_shape=[1, 1]), net.node("Relu", x), axis=1
    ),
    "flatten": lambda net, x: net.node("Flatten", x),
    "max average": lambda net, x: net.node("GlobalAveragePool", net.node("MaxPool", x, kernel_shape=[2, 2])),
}


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("kind", ["s8", "u8"])
def test_pools_before_the_quantizer(source: str, pool: str, kind: str) -> None:
    net = Net(seed=5)
    value = POOLS[pool](net, SOURCES[source](net, net.input()))
    scale = 0.031
    model = net.model(net.qdq(value, scale, kind))
    if pool == "max average" and source != "activation":
        with pytest.raises(
            OnnxImportError, match=r"MaxPool reads .* which was not quantized, and nothing behind it is"
        ):
            from_onnx(model)
        return
    assert_same_codes(model, net.photos(40), scale, most=0.04)


def test_a_max_pool_that_a_sum_reads_as_well() -> None:
    """As in TensorRT's files: a block's shortcut is not quantized."""
    net = Net(seed=5)
    pooled = net.node("MaxPool", net.node("Relu", net.conv(net.input(), 6, 4)), kernel_shape=[2, 2], strides=[2, 2])
    branch = net.conv(net.qdq(pooled, 0.06), 6, 6)
    value = net.qdq(net.node("Add", pooled, branch), OUT)
    made = assert_same_codes(net.model(value), net.photos(), OUT, most=0.6, by=2)
    assert [entry.node for entry in made.roundings if entry.what == "result"]


# Averages

ACTIVATIONS = {
    "u8": ("u8", None),
    "u7": ("u8", (0, 127)),
    "s8": ("s8", None),
    "u4": ("u8", (0, 15)),
    "s4": ("s8", (-8, 7)),
}


@pytest.mark.parametrize("scale", ["power of two", "any"])
@pytest.mark.parametrize("ratio", [1.0, 2.0, 0.5, 1.5, 0.75, 1.137], ids=str)
@pytest.mark.parametrize("kernel", [2, 3, 8])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_halves_of_averages(activation: str, kernel: int, ratio: float, scale: str) -> None:
    """Exact where float32 is: else the rounding of ONNX Runtime's floats decides some of the halves."""
    net = Net((8, 8, 8), seed=6)
    kind, clip = ACTIVATIONS[activation]
    unit = 1 / 8 if clip and max(clip) < 16 else 1 / 64
    unit = np.float32(unit if scale == "power of two" else 0.7 * unit)
    value = net.qdq("input", unit, kind, clip=clip)
    if kernel == 8:
        value = net.node("GlobalAveragePool", value)
    else:
        value = net.node("AveragePool", value, kernel_shape=[kernel, kernel], strides=[kernel, kernel])
    out = np.float32(unit * np.float32(ratio))
    is_exact = scale == "power of two" and ratio in (1.0, 2.0, 0.5, 1.5, 0.75) and kernel != 3
    model = net.model(net.qdq(value, out, kind))
    made = assert_same_codes(model, net.photos(100), out, most=0.001 if is_exact else 0.15)
    assert all(entry.error <= 0.5 for entry in made.roundings)


@pytest.mark.parametrize("ratio", [1.0, 2.0, 0.5, 4.0])
def test_halves_of_sums(ratio: float) -> None:
    """Scales that are powers of two, as tools for fixed point write them: every operation is exact in float32."""
    net = Net(seed=6)
    left = net.qdq("input", 1 / 64)
    right = net.qdq(net.node("MaxPool", left, kernel_shape=[3, 3], pads=[1, 1, 1, 1]), 1 / 64)
    value = net.qdq(net.node("Add", left, right), ratio / 64)
    assert_same_codes(net.model(value), net.photos(), ratio / 64, most=0)


@pytest.mark.parametrize("one_in", [2, 8, 16])
def test_halves_of_products(one_in: int) -> None:
    """The same of what a convolution sums up."""
    net = Net(seed=6)
    scale, zero = net.constant(1 / 64), net.constant(0, np.int8)
    weight = net.node("DequantizeLinear", net.constant(net.rng.integers(-9, 9, (6, 4, 1, 1)), np.int8), scale, zero)
    value = net.node("Relu", net.node("Conv", net.qdq("input", 1 / 32), weight))
    out = one_in / 32 / 64
    assert_same_codes(net.model(net.qdq(value, out)), net.photos(), out, most=0)


# Slopes below 0

SLOPED: dict[str, Callable[[Net, str], str]] = {
    "by channel": lambda net, x: net.node("PRelu", x, net.constant(np.linspace(-0.5, 1.5, 6).reshape(6, 1, 1))),
    "with a batch axis": lambda net, x: net.node("PRelu", x, net.constant(np.linspace(0, 0.7, 6).reshape(1, 6, 1, 1))),
    "one": lambda net, x: net.node("PRelu", x, net.constant([0.25])),
    "leaky": lambda net, x: net.node("LeakyRelu", x, alpha=0.1),
}


@pytest.mark.parametrize("kind", ["s8", "u8"])
@pytest.mark.parametrize("slope", SLOPED)
def test_slopes_of_sums(slope: str, kind: str) -> None:
    net = Net(seed=5)
    value = net.qdq(SLOPED[slope](net, net.conv(net.input(), 6, 4)), OUT, kind)
    made = assert_same_codes(net.model(value), net.photos(), OUT, most=0.01, by=1)
    assert "PReLU" in {node.op for node in made.graph}


def test_slopes_of_an_activation() -> None:
    net = Net(seed=6)
    value = net.qdq(net.conv(net.input(), 6, 4), 0.02)
    value = net.qdq(SLOPED["by channel"](net, value), OUT)
    assert_same_codes(net.model(value), net.photos(), OUT, most=0.01, by=1)


def test_slopes_that_nothing_rounds_at_once_are_refused() -> None:
    net = Net(seed=7)
    value = SLOPED["by channel"](net, net.conv(net.input(), 6, 4))
    value = net.qdq(net.node("MaxPool", value, kernel_shape=[2, 2]), OUT)
    with pytest.raises(OnnxImportError, match="only one QuantizeLinear may read it"):
        from_onnx(net.model(value))
