"""Capture and folding: the recorded network answers as the module does; what cannot be recorded is named."""

from __future__ import annotations

from collections.abc import Callable

import float_networks
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from nybble.graph import Padding
from nybble.quantize.errors import CaptureError
from nybble.quantize.ir import vocabulary
from nybble.quantize.ir.float_network import Affine, Conv, Dense, Norm, Pad, Rectifier, Result, Sum, Weighted
from nybble.quantize.ir.fold import fold, fold_norm
from nybble.quantize.prepare.prepare import prepare
from nybble.quantize.sources.pytorch.capture import capture


@pytest.mark.parametrize("name", float_networks.NETWORKS)
def test_captured_and_folded_networks_answer_as_the_module(name: str) -> None:
    module, shape = float_networks.make(name)
    module.train()
    network = capture(module, shape)
    assert module.training and all(child.training for child in module.modules())
    module.eval()
    x = float_networks.images(shape)
    expected = module(x).detach()
    torch.testing.assert_close(network(x).reshape(expected.shape), expected, rtol=1e-4, atol=1e-5)
    folded = fold(network)
    torch.testing.assert_close(folded(x).reshape(expected.shape), expected, rtol=1e-4, atol=1e-5)
    assert not any(isinstance(op, Affine | Norm) for op in folded)


def test_layers_have_the_names_of_their_modules() -> None:
    network = fold(capture(*float_networks.make("resnet")))
    names = [op.name for op in network if isinstance(op, Weighted)]
    assert names[:4] == ["conv1", "layer1.0.conv1", "layer1.0.conv2", "layer1.0.conv3"]
    assert "layer1.0.downsample.0" in names and names[-1] == "fc"
    assert network["layer1.0.add"].place.split(": ")[1] == "y += x if self.downsample is None else self.downsample(x)"


def test_same_padding_goes_into_the_convolution() -> None:
    network = fold(capture(*float_networks.make("lite")))
    assert not any(isinstance(op, Pad) for op in network)
    stem = network["stem"]
    assert isinstance(stem, Conv)
    assert stem.padding == Padding(1, 1, 1, 1)  # 31 rows and 33 columns; the next has 16 and 17
    depthwise = network["blocks.0.depthwise"]
    assert isinstance(depthwise, Conv)
    assert depthwise.padding == Padding(0, 1, 1, 1)


def test_option_a_shortcuts_become_one_operation() -> None:
    network = fold(capture(*float_networks.make("cifar")))
    pads = [op for op in network if isinstance(op, Pad)]
    assert [(op.stride, op.channels) for op in pads] == [((2, 2), (4, 4)), ((2, 2), (8, 8))]


def test_relu_moves_before_a_pool() -> None:
    network = fold(capture(*float_networks.make("vgg")))
    kinds = {type(network[op.inputs[0]]) for op in network if isinstance(op, Rectifier)}
    assert kinds <= {Conv, Dense, Sum}


def test_batch_norm_folds_into_weights() -> None:
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(3, 5, 3, bias=True), nn.BatchNorm2d(5)
    nn.init.uniform_(norm.weight, -1, 2)
    nn.init.normal_(norm.running_mean)
    nn.init.uniform_(norm.running_var, 0.1, 3)
    module = nn.Sequential(conv, norm).eval()
    op, result = fold(capture(module, (3, 8, 8))).ops
    assert isinstance(result, Result)
    assert isinstance(op, Conv)
    weight, bias = fold_norm(op)
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(functional.conv2d(x, weight, bias), module(x).detach(), rtol=1e-5, atol=1e-5)


class Glu(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return functional.glu(self.conv(x)).mean((2, 3))


class Deciding(Glu):
    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            return self.conv(x).mean((2, 3))
        return -self.conv(x).mean((2, 3))


class Random(Glu):
    def forward(self, x: Tensor) -> Tensor:
        return functional.dropout(self.conv(x), 0.5, training=True).mean((2, 3))


class Concatenating(Glu):
    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return torch.cat([y, y[:, :2]], 2).mean((2, 3))


class Interpolating(Glu):
    def forward(self, x: Tensor) -> Tensor:
        return functional.adaptive_avg_pool2d(self.conv(x), 4).flatten(1)


class Two(Glu):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.conv(x).mean((2, 3))
        return y, y


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (Glu(), ["return functional.glu(self.conv(x)).mean((2, 3))", "glu", "test_capture.py:"]),
        (Deciding(), ["if x.sum() > 0:", "test_capture.py:"]),
        (Random(), ["functional.dropout(self.conv(x), 0.5, training=True)", "test_capture.py:"]),
        (Concatenating(), ["torch.cat([y, y[:, :2]], 2)", "Sizes of tensors"]),
        (Interpolating(), ["adaptive_avg_pool2d(self.conv(x), 4)", "divides evenly"]),
        (Two(), ["2 values"]),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.GLU(1)), ["(module 1)", "glu"]),
    ],
    ids=lambda entry: type(entry).__name__ if isinstance(entry, nn.Module) else "",
)
def test_what_cannot_be_captured_is_named_with_its_line(
    module: nn.Module, words: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(CaptureError) as caught:
        fold(capture(module, (3, 9, 9)))
    for word in words:
        assert word in str(caught.value)
    assert capfd.readouterr() == ("", "")


class Written(Glu):
    """A body as a function of the module and the image."""

    def __init__(self, body: Callable[[Written, Tensor], Tensor], channels: int = 3) -> None:
        super().__init__()
        self.body = body
        self.conv = nn.Conv2d(channels, 4, 3, padding=1)
        self.wide, self.norm, self.fc = nn.Conv2d(2 * channels, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 5)
        self.register_buffer("calls", torch.zeros(()))
        for tensor in (self.norm.weight, self.norm.bias, self.norm.running_mean):
            nn.init.normal_(tensor)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self, x)

    def head(self, x: Tensor) -> Tensor:
        return self.fc(x.mean((2, 3)))


def _counting(n: Written, x: Tensor) -> Tensor:
    n.calls += 1
    return n.head(n.conv(x))


PREPARED: dict[str, tuple[Callable[[Written, Tensor], Tensor], int]] = {
    "one value joined twice": (lambda n, x: n.head(n.wide(torch.cat([x, x], 1))), 3),
    "an activation joined twice": (lambda n, x: n.fc(torch.cat([n.conv(x).relu()[:, :2]] * 2, 1).mean((2, 3))), 3),
    "changes its input": (lambda n, x: n.head(n.conv(x.mul_(2))), 3),
    "changes a buffer": (_counting, 3),
    "two batch norms": (lambda n, x: n.head(n.norm(n.norm(n.conv(x)))), 3),
    "constants, then batch norm": (lambda n, x: n.head(n.norm(n.conv(x) * 3 - 1)), 3),
    "batch norm, then constants": (lambda n, x: n.head(n.norm(n.conv(x)) * 3 - 1), 3),
    "constants before and behind a pool": (lambda n, x: n.fc((n.conv(x).relu() * 2).mean((2, 3)) / 3), 3),
    "constants behind a limit": (lambda n, x: n.head((n.conv(x).clamp(0, 2) * 3).relu()), 3),
    "one channel": (lambda n, x: n.head(n.conv((x - 0.5) / 0.2).relu()), 1),
    "one channel, flat": (lambda n, x: functional.linear(x.flatten(1), torch.ones(5, 72)), 1),
    "zeros added": (lambda n, x: n.head(n.conv(x) + torch.zeros(2, 4, 9, 8)), 3),
    "zeros like it": (lambda n, x: n.head(torch.zeros_like(n.conv(x)) + n.conv(x)), 3),
}


@pytest.mark.parametrize("name", PREPARED)
def test_prepared_networks_answer_as_the_module(name: str) -> None:
    body, channels = PREPARED[name]
    module = Written(body, channels).eval()
    x = float_networks.images((channels, 9, 8), 2)
    network = prepare(module, (channels, 9, 8))
    torch.testing.assert_close(network(x), module(x.clone()).detach(), rtol=1e-4, atol=1e-5)


def test_constants_stay_when_batch_norm_is_taken_anew() -> None:
    """Only batch norm has statistics: a scale by channel is left alone."""
    module = Written(lambda n, x: n.head(n.conv(x) * 0.1 + 3)).eval()
    network = prepare(module, (3, 9, 8))
    before = network(float_networks.images((3, 9, 8))).detach()
    network.reestimate_batch_norm([float_networks.images((3, 9, 8), 8, 5)])
    torch.testing.assert_close(network(float_networks.images((3, 9, 8))).detach(), before)


def test_a_normalisation_inside_keeps_eight_bits_in_front() -> None:
    module = Written(lambda n, x: n.head(n.conv((x - 0.4) / 0.2).relu())).eval()
    config = prepare(module, (3, 9, 8)).config
    assert [entry.weight_bits for entry in config.layers.values()] == [8, 8, 8]
    assert next(iter(config.activations.values())).dtype.bits == 8


def test_a_bug_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise TypeError("a bug")

    monkeypatch.setattr(vocabulary, "clip", broken)
    with pytest.raises(TypeError, match="a bug"):
        capture(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), (3, 6, 6))
