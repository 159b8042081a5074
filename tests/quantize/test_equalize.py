"""Equalisation leaves the function as it is and evens out channels; bias correction takes a shift away."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from nybble.quantize.calibrate.calibration import calibrate
from nybble.quantize.config import QuantizeConfig
from nybble.quantize.errors import QuantizeError
from nybble.quantize.fake.network import QuantizedNetwork
from nybble.quantize.prepare.prepare import prepare
from nybble.quantize.ptq.bias import correct_bias
from nybble.quantize.ptq.equalize import equalize
from nybble.quantize.settings import CalibrationConfig


class Chain(nn.Module):
    """Pairs through ReLU, max pool, depthwise, groups, average pool and a flat linear layer; a ReLU6; an addition."""

    def __init__(self, *, clipped: bool = False) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.grouped = nn.Conv2d(8, 12, 3, padding=1, groups=4)
        self.clipped = nn.Conv2d(12, 8, 1)
        self.left = nn.Conv2d(8, 6, 1)
        self.right = nn.Conv2d(6, 8, 1)
        self.last = nn.Conv2d(8, 4, 1)
        self.head = nn.Linear(4 * 2 * 2, 5)
        self.activation = nn.ReLU6() if clipped else nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = torch.max_pool2d(torch.relu(self.norm(self.first(x))), 2)
        x = torch.relu(self.grouped(torch.relu(self.depthwise(x))))
        x = self.activation(self.clipped(x))
        x = torch.relu(self.right(self.left(x)) + x)
        x = torch.relu(self.last(x))
        return self.head(torch.flatten(torch.nn.functional.avg_pool2d(x, 2), 1))


def prepared(module: nn.Module, shape: tuple[int, int, int] = (3, 8, 8), **config: object) -> QuantizedNetwork:
    settings = CalibrationConfig(bins=1024, method="minmax")
    return prepare(module.eval(), shape, QuantizeConfig(calibration=settings, **config))  # type: ignore[arg-type]


def uneven(*, clipped: bool = False) -> nn.Module:
    torch.manual_seed(0)
    module = Chain(clipped=clipped)
    with torch.no_grad():
        module.norm.running_mean.normal_()
        module.norm.running_var.uniform_(0.5, 2)
        for layer in (module.first, module.depthwise, module.grouped, module.last):
            layer.weight.mul_(torch.exp2(4 * torch.rand(len(layer.weight), 1, 1, 1) - 2))
    return module


@pytest.mark.parametrize("by_activations", [False, True])
def test_the_function_stays(by_activations: bool) -> None:
    network = prepared(uneven())
    images = torch.randn(6, 3, 8, 8)
    before = network(images).detach()
    report = equalize(network, [images] if by_activations else None)
    torch.testing.assert_close(network(images).detach(), before, rtol=1e-4, atol=1e-5)
    pairs = [(pair.first, pair.second) for pair in report.pairs]
    assert pairs == [
        ("first", "depthwise"),
        ("depthwise", "grouped"),
        ("grouped", "clipped"),
        ("left", "right"),
        ("last", "head"),
    ]
    assert max(pair.largest / pair.smallest for pair in report.pairs) > 2
    assert set(report.skipped) == {"clipped", "right", "head"}
    assert "read by" in report.skipped["clipped"]
    assert "addition" in report.skipped["right"]
    # Twice changes nothing more.
    again = equalize(network, [images] if by_activations else None)
    assert all(0.98 < pair.smallest <= pair.largest < 1.02 for pair in again.pairs)
    for name, layer in network.layers().items():
        quantizer = network.weight_quantizers()[name]
        torch.testing.assert_close(quantizer.scale * quantizer.high, layer.weight.detach().flatten(1).abs().amax(1))


def test_channels_come_out_even() -> None:
    network = prepared(uneven())
    equalize(network)
    first, second = network.layers()["grouped"], network.layers()["clipped"]
    sizes = first.weight.detach().flatten(1).abs().amax(1), second.weight.detach().abs().amax((0, 2, 3))
    ratio = sizes[0] / sizes[1]
    torch.testing.assert_close(ratio, ratio.mean().expand(12), rtol=0.02, atol=0)


def test_a_relu6_is_skipped_and_said() -> None:
    module = uneven(clipped=True)
    module.right = nn.Conv2d(6, 8, 1)
    network = prepared(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU6(), nn.Conv2d(4, 4, 1)))
    report = equalize(network)
    assert report.pairs == []
    assert "clips at 6" in report.skipped["0"]
    network.set_mode("clip")
    with pytest.raises(QuantizeError, match="clipping belongs to its function"):
        equalize(network)


def test_dead_channels_and_nan() -> None:
    network = prepared(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1)))
    first = network.layers()["0"]
    with torch.no_grad():
        first.weight[1] = 0
    images = torch.randn(2, 3, 8, 8)
    before = network(images).detach()
    equalize(network)
    torch.testing.assert_close(network(images).detach(), before, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        first.weight[0] = torch.nan
    with pytest.raises(QuantizeError, match="0: a weight"):
        equalize(network)


def test_batch_norm_can_still_be_estimated_anew() -> None:
    images = [torch.randn(16, 3, 8, 8)]
    plain, changed = prepared(uneven()), prepared(uneven())
    equalize(changed)
    plain.reestimate_batch_norm(images)
    changed.reestimate_batch_norm(images)
    torch.testing.assert_close(changed(images[0]).detach(), plain(images[0]).detach(), rtol=1e-3, atol=1e-4)


def test_bias_correction_takes_a_known_shift_away() -> None:
    network = prepared(uneven())
    images = [torch.randn(16, 3, 8, 8), torch.randn(8, 3, 8, 8)]
    calibrate(network, images)
    plain = {name: layer.bias.detach().clone() for name, layer in network.layers().items()}
    correct_bias(network, images)
    settled = {name: layer.bias.detach().clone() for name, layer in network.layers().items()}
    assert any(not torch.equal(settled[name], plain[name]) for name in plain)

    def mean_error() -> Tensor:
        with torch.inference_mode():
            network.set_mode("quantize")
            coded = torch.cat([network(part) for part in images])
            network.set_mode("float")
            return (coded - torch.cat([network(part) for part in images])).mean(0)

    # The reference is the network before: its biases are back while it computes in floating point.
    with torch.inference_mode():
        network.set_mode("quantize")
        coded = torch.cat([network(part) for part in images]).mean(0)
        for name, layer in network.layers().items():
            layer.bias.copy_(plain[name])
        network.set_mode("float")
        exact = torch.cat([network(part) for part in images]).mean(0)
    torch.testing.assert_close(coded, exact, rtol=0, atol=1e-3)
    assert mean_error().abs().max() > 2e-3
    with pytest.raises(QuantizeError, match="at least one image"):
        correct_bias(network, [])
