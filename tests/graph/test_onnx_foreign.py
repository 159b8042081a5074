"""QDQ models in the forms that other tools write, against ONNX Runtime, plain and optimised."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from qdq_networks import INPUT_SCALE, LEVELS, Net, assert_same_codes

from nybble.graph import Quantize

RNG = np.random.default_rng(7)
INTEGERS = RNG.integers(-7, 8, (6, 4, 3, 3))
SCALES = RNG.uniform(0.02, 0.05, 6)
OUT = 0.05


def _dequantized(net: Net, values: str, scales: Any = SCALES, axis: int = 0, dtype: Any = np.int8) -> str:
    scale, zero = net.constant(scales), net.constant(np.zeros_like(scales), dtype)
    return net.node("DequantizeLinear", values, scale, zero, axis=axis)


def _fake_quantized(net: Net, clip: tuple[int, int] | None, *, as_node: bool = False) -> str:
    real = net.constant(INTEGERS * SCALES.reshape(-1, 1, 1, 1) + 0.003, as_node=as_node)
    scale, zero = net.constant(SCALES), net.constant(np.zeros(6), np.int8)
    stored = net.node("QuantizeLinear", real, scale, zero, axis=0)
    if clip is not None:
        stored = net.node("Clip", stored, *(net.constant(bound, np.int8, as_node=as_node) for bound in clip))
    return net.node("DequantizeLinear", stored, scale, zero, axis=0)


def _clipped(net: Net) -> str:
    stored = net.constant(INTEGERS, np.int8)
    stored = net.node("Clip", stored, net.constant(-7, np.int8), net.constant(7, np.int8))
    return _dequantized(net, stored)


def _self_scaled(net: Net) -> str:
    """What the exporter of PyTorch makes of ``weight.abs().amax((1, 2, 3)) / 127``."""
    real = net.constant(INTEGERS * SCALES.reshape(-1, 1, 1, 1))
    largest = net.node("ReduceMax", net.node("Abs", real), axes=[1, 2, 3], keepdims=0)
    scale, zero = net.node("Div", largest, net.constant(127.0)), net.constant(np.zeros(6), np.int8)
    stored = net.node("QuantizeLinear", real, scale, zero, axis=0)
    return net.node("DequantizeLinear", stored, scale, zero, axis=0)


#: The weight of a convolution, 6 x 4 x 3 x 3, as constants that are computed.
WEIGHTS: dict[str, Callable[[Net], str]] = {
    "integers": lambda net: _dequantized(net, net.constant(INTEGERS, np.int8)),
    "node": lambda net: _dequantized(net, net.constant(INTEGERS, np.int8, as_node=True)),
    "qdq": lambda net: _fake_quantized(net, None),
    "qcdq": lambda net: _fake_quantized(net, (-7, 7)),
    "qcdq of nodes": lambda net: _fake_quantized(net, (-7, 7), as_node=True),
    "qcdq that clips": lambda net: _fake_quantized(net, (-5, 5)),
    "clip of integers": _clipped,
    "identity": lambda net: net.node(
        "Identity", _dequantized(net, net.node("Identity", net.constant(INTEGERS, np.int8)))
    ),
    "cast": lambda net: _dequantized(net, net.node("Cast", net.constant(INTEGERS, np.int32), to=3)),
    "cast of floats": lambda net: net.node("Cast", _dequantized(net, net.constant(INTEGERS, np.int8)), to=1),
    "transpose": lambda net: net.node(
        "Transpose", _dequantized(net, net.constant(INTEGERS.transpose(2, 3, 1, 0), np.int8), axis=3), perm=[3, 2, 0, 1]
    ),
    "reshape": lambda net: net.node(
        "Reshape",
        _dequantized(net, net.constant(INTEGERS.reshape(6, 36), np.int8)),
        net.constant([0, 4, -1, 3], np.int64),
    ),
    "unsqueeze": lambda net: net.node(
        "Squeeze",
        net.node("Unsqueeze", _dequantized(net, net.constant(INTEGERS, np.int8)), net.constant([0], np.int64)),
        net.constant([0], np.int64),
    ),
    "masked": lambda net: net.node(
        "Mul", net.constant(RNG.uniform(0.5, 2, (6, 1, 1, 1))), _dequantized(net, net.constant(INTEGERS, np.int8))
    ),
    "turned": lambda net: net.node("Neg", _dequantized(net, net.constant(INTEGERS, np.int8))),
    "scales computed of it": _self_scaled,
    "one channel pruned": lambda net: _dequantized(
        net, net.constant(INTEGERS, np.int8), np.where(np.arange(6) == 2, 0, SCALES)
    ),
    "all pruned but one": lambda net: _dequantized(
        net, net.constant(INTEGERS, np.int8), np.where(np.arange(6) == 2, SCALES, 0)
    ),
}


def _bias_of(net: Net, integers: Any, scale: Any) -> str:
    return net.node("DequantizeLinear", net.constant(integers, np.int32), net.constant(scale), axis=0)


BIAS = RNG.normal(size=6) * 0.4
#: The bias of the same convolution.
BIASES: dict[str, Callable[[Net], str | None]] = {
    "none": lambda net: None,
    "float": lambda net: net.constant(BIAS),
    "node": lambda net: net.constant(BIAS, as_node=True),
    "integers": lambda net: _bias_of(net, np.rint(BIAS / SCALES / INPUT_SCALE), (SCALES * INPUT_SCALE).astype("f4")),
    "integers of another scale": lambda net: _bias_of(net, np.rint(BIAS * 1000), np.full(6, 0.001)),
    "qdq": lambda net: net.qdq(net.constant(BIAS), 0.01),
    "identity": lambda net: net.node("Identity", net.constant(BIAS)),
    "squeezed": lambda net: net.node("Squeeze", net.constant(BIAS.reshape(6, 1)), net.constant([1], np.int64)),
    "computed": lambda net: net.node("Sub", net.constant(2 * BIAS), net.constant(BIAS)),
}


@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize("bias", ["float", "none"])
def test_weights_in_any_form(weight: str, bias: str) -> None:
    net = Net()
    names = [net.input(), WEIGHTS[weight](net), BIASES[bias](net)]
    value = net.node("Conv", *[name for name in names if name], pads=[1, 1, 1, 1])
    # ONNX Runtime divides float biases by the weights' scales when it optimises, even by those of 0.
    levels = (False,) if "pruned" in weight else LEVELS
    made = assert_same_codes(net.model(net.qdq(value, OUT)), net.photos(), OUT, levels=levels)
    conv = next(node for node in made.graph if node.op == "Conv2d")
    assert conv.weight.dtype == ("s4" if "qcdq" in weight or weight == "clip of integers" else "s8")


@pytest.mark.parametrize("bias", BIASES)
def test_biases_in_any_form(bias: str) -> None:
    net = Net()
    names = [net.input(), WEIGHTS["integers"](net), BIASES[bias](net)]
    value = net.node("Conv", *[name for name in names if name], pads=[1, 1, 1, 1])
    assert_same_codes(net.model(net.qdq(value, OUT)), net.photos(), OUT)


@pytest.mark.parametrize("is_relu", [False, True])
@pytest.mark.parametrize(
    ("kind", "clip"),
    [
        ("u8", None),
        ("s8", None),
        ("u8", (0, 15)),
        ("u8", (0, 127)),
        ("u8", (0, 7)),
        ("u8", (3, 12)),
        ("u8", (20, 255)),
        ("s8", (-8, 7)),
        ("s8", (-7, 7)),
        ("s8", (-127, 127)),
        ("s8", (-100, 90)),
        ("s8", (0, 127)),
        ("s8", (-128, 50)),
    ],
)
def test_codes_clipped_between(kind: str, clip: tuple[int, int] | None, is_relu: bool) -> None:
    """Narrow ranges, as Brevitas writes them: between QuantizeLinear and DequantizeLinear."""
    net = Net(seed=3)
    value = net.conv(net.input(), 6, 4)
    value = net.node("Relu", value) if is_relu else value
    scale = 0.25 if clip and max(map(abs, clip)) < 16 else 0.02
    value = net.qdq(value, scale, kind, clip=clip)
    made = assert_same_codes(net.model(value), net.photos(), scale)
    if clip == (0, 15):
        assert next(node.output_type for node in made.graph if isinstance(node, Quantize)) == "u4"
    net = Net(seed=3)
    first = net.qdq(net.conv(net.input(), 6, 4), scale, kind, clip=clip)
    # A few first codes differ by one rounding, which the second layer multiplies.
    value = net.qdq(net.conv(first, 6, 6, 1), 0.1)
    assert_same_codes(net.model(value), net.photos(), 0.1, most=0.03)


def test_a_clipped_code_does_not_change_what_others_read() -> None:
    net = Net(seed=3)
    first = net.qdq(net.conv(net.input(), 6, 4), 0.05)
    clipped = net.qdq(first, 0.05, clip=(-8, 7))
    value = net.qdq(net.node("Add", first, clipped), 0.093)
    # A first code that differs by one rounding counts twice.
    assert_same_codes(net.model(value), net.photos(), 0.093, most=0.05, by=2)


#: What may be done to real numbers before a QuantizeLinear, in every order of operands.
CLIPS: dict[str, Callable[[Net, str], str]] = {
    "relu": lambda net, x: net.node("Relu", x),
    "min(const, x)": lambda net, x: net.node("Min", net.constant(0.7), x),
    "min(x, const)": lambda net, x: net.node("Min", x, net.constant([0.7])),
    "max(const, x)": lambda net, x: net.node("Max", net.constant([0.0]), x),
    "max(x, -1)": lambda net, x: net.node("Max", x, net.constant(-1.0)),
    "max then min": lambda net, x: net.node("Min", net.constant(1.0), net.node("Max", net.constant(0.0), x)),
    "min then max": lambda net, x: net.node("Max", net.constant(0.0), net.node("Min", net.constant(1.0), x)),
    "relu then clip max": lambda net, x: net.node("Clip", net.node("Relu", x), "", net.constant(1.0)),
    "clip min": lambda net, x: net.node("Clip", x, net.constant(0.0)),
    "clip min below 0": lambda net, x: net.node("Clip", x, net.constant(-0.6)),
    "clip above 0": lambda net, x: net.node("Clip", x, net.constant(0.3), net.constant(1.1)),
    "clip below 0": lambda net, x: net.node("Clip", x, net.constant(-1.1), net.constant(-0.3)),
    "hard tanh": lambda net, x: net.node("Clip", x, net.constant(-1.0), net.constant(1.0)),
    "clip then relu": lambda net, x: net.node("Relu", net.node("Clip", x, net.constant(-1.0), net.constant(1.0))),
    "clip of nothing": lambda net, x: net.node("Clip", x),
    "max of three": lambda net, x: net.node("Max", net.constant(-1.0), x, net.constant(-0.5)),
    "by channel": lambda net, x: net.node("Min", x, net.constant(np.linspace(0.2, 1.2, 6).reshape(6, 1, 1))),
    "relu, then raised by channel": lambda net, x: net.node(
        "Max", net.node("Relu", x), net.constant(np.linspace(-0.3, 0.5, 6).reshape(6, 1, 1))
    ),
    "all at once": lambda net, x: net.node(
        "Max",
        net.node("Min", net.node("Relu", x), net.constant(np.linspace(-0.2, 0.9, 6).reshape(6, 1, 1))),
        net.constant(np.linspace(0.3, -0.3, 6).reshape(6, 1, 1)),
    ),
    "relu by channel": lambda net, x: net.node(
        "Min", net.constant(np.linspace(0.2, 1.2, 6).reshape(1, 6, 1, 1)), net.node("Relu", x)
    ),
}


# Below 0, u8 has nothing but 0.
@pytest.mark.parametrize(
    ("clip", "kind"),
    [(clip, kind) for clip in CLIPS for kind in ("s8", "u8") if (clip, kind) != ("clip below 0", "u8")],
)
def test_clips_of_real_numbers(clip: str, kind: str) -> None:
    net = Net(seed=1)
    value = net.qdq(CLIPS[clip](net, net.conv(net.input(), 6, 4)), 0.02, kind)
    assert_same_codes(net.model(value), net.photos(), 0.02)


@pytest.mark.parametrize("clip", CLIPS)
def test_clips_before_a_sum(clip: str) -> None:
    """Each channel's scale differs, so that one maximum is another number of steps in each."""
    net = Net(seed=1)
    left = CLIPS[clip](net, net.conv(net.input(), 6, 4))
    right = net.qdq(net.conv(net.input(), 6, 4), 0.02)
    assert_same_codes(net.model(net.qdq(net.node("Add", left, right), OUT)), net.photos(), OUT, most=0.03)


@pytest.mark.parametrize("clip", CLIPS)
def test_clips_of_activations_before_a_sum(clip: str) -> None:
    net = Net(seed=1)
    left = CLIPS[clip](net, net.qdq(net.conv(net.input(), 6, 4), 0.02))
    right = net.conv(net.input(), 6, 4)
    assert_same_codes(net.model(net.qdq(net.node("Add", left, right), OUT)), net.photos(), OUT, most=0.03)


def test_a_channel_that_is_clipped_to_nothing() -> None:
    net = Net(seed=1)
    bound = net.constant(np.array([0, 1, 0.5, 0, 0.3, 0.9]).reshape(6, 1, 1))
    left = net.node("Min", net.node("Relu", net.conv(net.input(), 6, 4)), bound)
    right = net.conv(net.input(), 6, 4)
    assert_same_codes(net.model(net.qdq(net.node("Add", left, right), OUT)), net.photos(), OUT, most=0.03)


def test_bounds_as_attributes() -> None:
    """Operator set 10 has them, and no scales by channel."""
    net = Net(opset=10)
    integers, scale, zero = net.constant(INTEGERS, np.int8), net.constant(0.03), net.constant(0, np.int8)
    weight = net.node("DequantizeLinear", integers, scale, zero)
    value = net.node("Clip", net.node("Conv", net.input(), weight), min=-0.5, max=1.0)
    assert_same_codes(net.model(net.qdq(value, OUT)), net.photos(), OUT)
