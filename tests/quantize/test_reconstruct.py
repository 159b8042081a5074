"""Block reconstruction: how networks are divided, that it pays, survives conversion, and resumes to the last bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from test_equalize import prepared
from torch import Tensor, nn

from nybble.quantize.calibrate.calibration import calibrate
from nybble.quantize.errors import QuantizeError
from nybble.quantize.fake.network import QuantizedNetwork
from nybble.quantize.lower.agreement import compare
from nybble.quantize.lower.convert import convert
from nybble.quantize.lower.snap import snap_steps
from nybble.quantize.ptq.blocks import split
from nybble.quantize.ptq.reconstruct import reconstruct
from nybble.quantize.ptq.rounding import Rounding, undecided
from nybble.quantize.settings import ReconstructionConfig

CONFIG = ReconstructionConfig(iterations=150, batch=16, rate=3e-2)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.conv1 = nn.Conv2d(8, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1)
        self.wide = nn.Conv2d(8, 12, 3, stride=2, padding=1)
        self.project = nn.Conv2d(8, 12, 1, stride=2)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        x = torch.relu(self.conv2(torch.relu(self.conv1(x))) + x)
        x = torch.relu(self.wide(x) + self.project(x))
        return self.head(torch.flatten(nn.functional.adaptive_avg_pool2d(x, 1), 1))


def images() -> list[Tensor]:
    random = torch.Generator().manual_seed(1)
    coarse = torch.randn(48, 3, 4, 4, generator=random)
    return list(nn.functional.interpolate(coarse, (8, 8), mode="bilinear").split(20))


def residual(bits: str = "w4a4") -> QuantizedNetwork:
    torch.manual_seed(0)
    network = prepared(Residual(), bits=bits)
    calibrate(network, images())
    return network


def codes(network: QuantizedNetwork) -> dict[str, Tensor]:
    return {name: layer.weight_quantizer.codes(layer.weight) for name, layer in network.layers().items()}


def test_blocks_hand_over_one_value() -> None:
    blocks = split(residual())
    assert [[layer.name for layer in block.layers] for block in blocks] == [
        ["stem"],
        ["conv1", "conv2"],
        ["wide", "project"],
        ["head"],
    ]
    assert blocks[0].source == "input"
    assert [block.source for block in blocks[1:]] == [block.steps[-1].name for block in blocks[:-1]]


def test_a_gate_starts_where_the_weight_lies() -> None:
    layer = residual().layers()["conv1"]
    rounding = Rounding(layer)
    torch.testing.assert_close(rounding.soft(), layer.weight, rtol=0, atol=1e-6)
    assert torch.equal(rounding.codes(), layer.weight_quantizer.codes(layer.weight))
    assert 0 < float(undecided([rounding], 2.0).detach()) < 1
    with torch.no_grad():
        rounding.variable.copy_(torch.where(rounding.variable > 0, 10.0, -10.0))
    assert float(undecided([rounding], 2.0).detach()) == 0
    # The gradient of the rectified sigmoid.
    rounding = Rounding(layer)
    rounding.gate().sum().backward()
    s = torch.sigmoid(rounding.variable.detach())
    gate = rounding.gate().detach()
    inside = (gate > 0) & (gate < 1)
    torch.testing.assert_close(rounding.variable.grad[inside], (1.2 * s * (1 - s))[inside])


def test_learned_rounding_is_better_than_the_nearest_and_survives_conversion() -> None:
    network = residual()
    snap_steps(network)
    nearest = codes(network)
    network.set_mode("float")
    with torch.inference_mode():
        wanted = torch.cat([network(part) for part in images()])
        network.set_mode("quantize")
        plain = float((torch.cat([network(part) for part in images()]) - wanted).square().mean())
    seen: list[tuple[str, int, int | None]] = []
    report = reconstruct(network, images(), CONFIG, progress=lambda *at: seen.append(at))
    assert report.images == 48
    assert [block.name for block in report.blocks] == ["stem", "conv2", "project", "head"]
    assert all(block.after <= block.before for block in report.blocks)
    assert all(block.kept and block.changed > 0 for block in report.blocks[1:3])
    assert seen[-1] == ("reconstructing head", 150, 150)
    with torch.inference_mode():
        learned = float((torch.cat([network(part) for part in images()]) - wanted).square().mean())
    assert learned < plain
    # What was chosen is what the weights round to.
    chosen = codes(network)
    assert any(not torch.equal(chosen[name], nearest[name]) for name in chosen)
    for name, layer in network.layers().items():
        step = layer.weight_quantizer.shaped(layer.weight)
        torch.testing.assert_close(layer.weight.detach(), chosen[name] * step, rtol=1e-6, atol=0)
        if layer.weight_quantizer.bits == 4:
            assert float((chosen[name] - nearest[name]).abs().max()) <= 1
    before = {name: quantizer.scale.clone() for name, quantizer in network.weight_quantizers().items()}
    snap_steps(network)
    for name, quantizer in network.weight_quantizers().items():
        torch.testing.assert_close(quantizer.scale, before[name], rtol=1e-6, atol=0)
        assert torch.equal(quantizer.codes(network.layers()[name].weight), chosen[name])
    graph, conversion = convert(network)
    for name, expected in chosen.items():
        node = next(node for node in graph.nodes if node.name == conversion.values[name])
        assert np.array_equal(node.weight.numpy(), expected.numpy().astype(np.int64)), name  # type: ignore[attr-defined]
    found = compare(network, graph, conversion, images())
    assert found.largest <= 1
    assert found.off_rate < 0.01


def test_rounding_alone_lowers_a_blocks_error() -> None:
    network = residual("w4a8")
    alone = CONFIG.model_copy(update={"iterations": 250, "step_rate": 0.0, "bias_rate": 0.0, "drop": 0.0})
    steps = {name: quantizer.range for name, quantizer in network.activation_quantizers().items()}
    report = reconstruct(network, images(), alone)
    assert {name: quantizer.range for name, quantizer in network.activation_quantizers().items()} == steps
    for block in report.blocks[1:]:
        assert block.kept
        assert 0.02 < block.changed < 0.6
        assert block.after < block.before
    # Where 4-bit weights are what makes the error.
    assert report.blocks[2].after < 0.75 * report.blocks[2].before


class KilledError(Exception):
    pass


def test_a_killed_run_goes_on_to_the_same_network(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"iterations": 20})
    whole = residual()
    first = reconstruct(whole, images(), config)

    def kill(what: str, done: int, _total: int | None) -> None:
        if what == "reconstructing project":
            raise KilledError

    with pytest.raises(KilledError):
        reconstruct(residual(), images(), config, work=tmp_path, progress=kill)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["block-0000.pt", "block-0001.pt"]
    resumed = residual()
    second = reconstruct(resumed, images(), config, work=tmp_path)
    assert second.resumed == 2
    for (name, left), right in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(left, right), name
    assert [block.after for block in first.blocks] == [block.after for block in second.blocks]
    # Once complete, nothing is learned anew; other settings, images and networks are refused.
    assert reconstruct(residual(), images(), config, work=tmp_path).resumed == 4
    with pytest.raises(QuantizeError, match=r"block-0000\.pt: belongs to a reconstruction with other settings"):
        reconstruct(residual(), images(), CONFIG, work=tmp_path)
    with pytest.raises(QuantizeError, match="other images"):
        reconstruct(residual(), images()[:1], config, work=tmp_path)
    other = residual()
    with torch.no_grad():
        other.layers()["head"].bias.add_(1)
    with pytest.raises(QuantizeError, match="other network"):
        reconstruct(other, images(), config, work=tmp_path)
    seeded = residual()
    reconstruct(seeded, images(), config.model_copy(update={"seed": 1}), work=tmp_path, resume=False)
    assert not torch.equal(seeded.layers()["conv1"].bias, whole.layers()["conv1"].bias)


def test_what_cannot_be_reconstructed() -> None:
    network = residual()
    with pytest.raises(QuantizeError, match="at least one image"):
        reconstruct(network, [], CONFIG)
    with pytest.raises(QuantizeError, match="float images"):
        reconstruct(network, [torch.zeros(1, 3, 8, 8, dtype=torch.uint8)], CONFIG)
    with pytest.raises(QuantizeError, match="in one run"):
        reconstruct(network, [torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 4, 4)], CONFIG)
    with torch.no_grad():
        network.layers()["conv2"].bias[0] = torch.nan
    with pytest.raises(QuantizeError, match="conv2: its values are NaN"):
        reconstruct(network, images(), CONFIG.model_copy(update={"iterations": 1}))
