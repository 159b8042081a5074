"""Channels behind a ReLU6 get ranges of their own, and the float network stays the same function."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from nybble.graph import DType
from nybble.quantize import (
    CalibrationConfig,
    LayerConfig,
    QuantizeConfig,
    QuantizedNetwork,
    QuantizeError,
    calibrate,
    convert,
    equalize,
    fit_channels,
    prepare,
)
from nybble.quantize.ptq.channels import _BINS, _best_ranges
from nybble.reference import interpret


class Inverted(nn.Module):
    """An inverted residual of MobileNetV2 whose channels differ in size, between two other layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.expand = nn.Conv2d(4, 12, 1)
        self.depthwise = nn.Conv2d(12, 12, 3, padding=1, groups=12)
        self.project = nn.Conv2d(12, 4, 1)
        self.head = nn.Linear(4 * 8 * 8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        y = nn.functional.relu6(self.expand(x))
        y = self.project(nn.functional.relu6(self.depthwise(y)))
        return self.head(torch.flatten(x + y, 1))


def prepared() -> QuantizedNetwork:
    torch.manual_seed(3)
    module = Inverted().eval()
    with torch.no_grad():
        for layer in (module.expand, module.depthwise):
            layer.weight.mul_(torch.exp2(5 * torch.rand(12, 1, 1, 1) - 2))
            layer.bias.uniform_(0, 1)
    config = QuantizeConfig(
        bits="mixed",
        calibration=CalibrationConfig(bins=1024, method="mse", workers=0),
        layers={"depthwise": LayerConfig(weight_bits=8)},
    )
    return prepare(module, (3, 8, 8), config)


def error(network: QuantizedNetwork, images: Tensor) -> float:
    """Of the depthwise layer's codes, as a share of what the float network has there, channel by channel."""
    (name,) = (key for key, quantizer in network.activation_quantizers().items() if quantizer.dtype is DType.U4)
    network.set_mode("float")
    kept: list[Tensor] = []
    network.activation_quantizers()[name].observer = kept.append
    with torch.no_grad():
        network(images)
    network.activation_quantizers()[name].observer = None
    exact = kept[0]
    quantizer = network.activation_quantizers()[name]
    coded = quantizer.codes(exact) * quantizer.step().detach()
    shares = (coded - exact).square().sum((0, 2, 3)) / exact.square().sum((0, 2, 3))
    return float(shares.nanmean())


def test_the_function_stays_and_the_error_falls() -> None:
    images = torch.randn(12, 3, 8, 8)
    plain, fitted = prepared(), prepared()
    before = plain(images).detach()
    found = fit_channels(fitted, [images[:6], images[6:]])
    torch.testing.assert_close(fitted(images).detach(), before, rtol=1e-4, atol=1e-4)
    assert len(found) == 2
    assert all(0 < entry.smallest < entry.largest <= 6 for entry in found)
    for network in (plain, fitted):
        calibrate(network, [images])
    assert error(fitted, images) < 0.8 * error(plain, images)
    # No channel's own ReLU6 clips below the common range.
    for step in fitted.steps:
        divisor = getattr(step.module, "divisor", None)
        if divisor is not None:
            assert float((step.module.maximum / divisor).min()) >= 6


def test_it_converts() -> None:
    images = torch.randn(8, 3, 8, 8)
    network = prepared()
    fit_channels(network, [images])
    calibrate(network, [images])
    graph, _ = convert(network)
    codes = network.input_quantizer.codes(images).numpy().astype("int8")
    answers = torch.from_numpy(interpret(graph, codes)[graph.outputs[0]])
    network.set_mode("quantize")
    torch.testing.assert_close(answers, network(images).detach(), rtol=0.05, atol=0.05)


def test_what_is_refused() -> None:
    images = torch.randn(2, 3, 8, 8)
    network = prepared()
    with pytest.raises(QuantizeError, match="no images"):
        fit_channels(network, [])
    fit_channels(network, [images])
    with pytest.raises(QuantizeError, match="already"):
        fit_channels(network, [images])
    assert equalize(network).skipped
    network.set_mode("clip")
    with pytest.raises(QuantizeError, match="belongs to its function"):
        fit_channels(network, [images])
    assert fit_channels(prepare(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU()), (3, 8, 8), QuantizeConfig()), []) == []


def test_the_best_range_is_the_best() -> None:
    random = torch.Generator().manual_seed(0)
    values = torch.rand(4, 20_000, generator=random) * torch.tensor([[0.5], [1.0], [3.0], [6.0]])
    counts = torch.stack([torch.histc(row, _BINS, 0, 6) for row in values]).double()
    counts[1] = 0
    ranges = _best_ranges(counts, 6.0, DType.U4)
    assert ranges[1] == 6
    for row, found in zip(values[[0, 2, 3]], ranges[[0, 2, 3]], strict=True):
        errors = {}
        for clip in torch.linspace(0.25, 6, 93).tolist():
            step = clip / 15
            errors[clip] = float(((row / step).round().clamp(max=15) * step - row).square().mean())
        best = min(errors, key=errors.__getitem__)
        assert abs(float(found) - best) <= 0.13
