"""Drawn QDQ models of many forms at once, against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from qdq_networks import LEVELS, Net, imported, in_onnxruntime
from test_onnx_foreign import CLIPS
from test_onnx_foreign_layers import AFFINE

from nybble.graph.types import Array

#: What is drawn, often with what comes before QuantizeLinear: a clip that a sum can have anywhere.
_CLIPS = ["relu", "relu then clip max", "max then min", "clip min", "hard tanh", "by channel"]
_AFFINE = ["bn", "bn turned", "mul add", "add mul", "sub div", "const - x", "one number", "identity"]
_CODES = [
    ("s8", None),
    ("u8", None),
    ("s8", (-127, 127)),
    ("u8", (0, 15)),
    ("s8", (-8, 7)),
    ("s8", (-7, 7)),
    ("u8", (0, 127)),
]
PHOTOS = 64


class _Drawn:
    """A network that is drawn layer by layer; scales fit what the layers make."""

    def __init__(self, seed: int) -> None:
        self.net = Net((4, 12, 12), seed=seed)
        self.rng = np.random.default_rng(seed)
        self.seen = self.net.photos(PHOTOS)
        self.log: list[str] = []

    def choose(self, *values: Any) -> Any:
        return values[self.rng.integers(len(values))]

    def quantized(self, value: str, channels: int, *, by_channel: bool = False) -> str:
        real = in_onnxruntime(self.net.model(value), self.seen, is_optimised=False)
        kind, clip = self.choose(*_CODES)
        if real.min() < 0 and kind == "u8" and not self.log[-1].endswith("relu"):
            kind, clip = "s8", None
        reach = np.abs(real).max(axis=(0, *range(2, real.ndim))) if by_channel else np.abs(real).max()
        top = max(map(abs, clip)) if clip else {"s8": 127, "u8": 255}[kind]
        scale = np.maximum(reach, 0.05) * 0.9 / top
        self.log.append(f"{kind} {clip} by channel {by_channel}")
        return self.net.qdq(value, scale.astype(np.float32) if by_channel else np.float32(scale), kind, clip=clip)

    def layer(self, value: str, inputs: int) -> tuple[str, int]:
        net = self.net
        kind = self.choose("dense", "dense", "depthwise", "grouped", "pointwise")
        outputs = {"depthwise": inputs, "grouped": 2 * inputs}.get(kind, int(self.choose(4, 6, 8)))
        group = {"depthwise": inputs, "grouped": 2}.get(kind, 1)
        made = net.conv(
            value, outputs, inputs, 1 if kind == "pointwise" else 3, group=group, bias=self.choose(True, False)
        )
        self.log.append(kind)
        if self.choose(True, False):
            name = self.choose(*_AFFINE)
            made = AFFINE[name](net, made, outputs, (outputs, 1, 1))
            self.log.append(name)
        if outputs == inputs and self.choose(True, False):
            made = net.node("Add", *self.choose((made, value), (value, made)))
            self.log.append("shortcut")
        if self.choose(True, True, False):
            name = self.choose(*(_CLIPS if outputs == 6 else _CLIPS[:-1]))
            made = CLIPS[name](net, made)
            self.log.append(name)
        return made, outputs

    def pooled(self, value: str) -> str:
        net = self.net
        name = self.choose("none", "none", "max", "average", "padded")
        self.log.append(name)
        if name == "max":
            return net.node("MaxPool", value, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
        if name == "average":
            return net.node("AveragePool", value, kernel_shape=[2, 2], strides=[1, 1])
        if name == "padded":
            return net.node("AveragePool", value, kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1)
        return value

    def network(self, layers: int) -> Any:
        value, channels = self.net.input(self.choose("s8", "u8")), 4
        for _ in range(layers):
            value, channels = self.layer(value, channels)
            value = self.quantized(self.pooled(value), channels, by_channel=bool(self.rng.random() < 0.2))
        value = self.choose(
            lambda x: self.net.node("Flatten", self.net.node("GlobalAveragePool", x)),
            lambda x: self.net.node("ReduceMean", x, axes=[2, 3], keepdims=0),
            lambda x: self.net.node("Flatten", self.net.node("GlobalMaxPool", x)),
        )(value)
        value = self.quantized(value, channels)
        weight = self.net.weight(10, channels)
        return self.net.model(self.net.node("Gemm", value, weight, self.net.constant(np.zeros(10)), transB=1))


def _agreement(found: Array, wanted: Array) -> float:
    """The part of the inputs that have the same class, without those whose two best are next to equal."""
    two = np.sort(wanted, axis=1)[:, -2:]
    clear = two[:, 1] - two[:, 0] > 0.02 * wanted.std()
    same = found.argmax(axis=1) == wanted.argmax(axis=1)
    return float(same[clear].mean()) if clear.any() else 1.0


@pytest.mark.parametrize("seed", range(30))
def test_drawn_networks(seed: int) -> None:
    drawn = _Drawn(seed)
    model = drawn.network(2 + seed % 4)
    found, made = imported(model, drawn.seen)
    # ONNX Runtime's integer kernels fail with scales by channel.
    for is_optimised in LEVELS if not any("by channel True" in line for line in drawn.log) else (False,):
        wanted = in_onnxruntime(model, drawn.seen, is_optimised=is_optimised)
        said = (is_optimised, drawn.log, made.roundings)
        assert np.abs(found - wanted).mean() < 0.06 * max(wanted.std(), 1e-3), said
        assert _agreement(found, wanted) >= 0.9, said
