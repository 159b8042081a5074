"""Steps by channel in front of depthwise layers: the same function, less noise, exact in the engine."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from nybble import Engine
from nybble.graph import Mul, Quantize
from nybble.quantize import QuantizeConfig, calibrate, convert
from nybble.quantize.errors import QuantizeError
from nybble.quantize.ir.float_network import Conv, FloatNetwork
from nybble.quantize.ir.fold import fold
from nybble.quantize.lower.agreement import compare, input_codes
from nybble.quantize.prepare.prepare import prepare_captured
from nybble.quantize.ptq.depthwise import scale_channels
from nybble.quantize.sources.pytorch.capture import capture
from nybble.reference import interpret

FUNCTIONS = {
    "ReLU": functional.relu,
    "none": lambda x: x,
    "SiLU": functional.silu,
    "HardSwish": functional.hardswish,
}


class Uneven(nn.Module):
    """A depthwise layer that reads channels of very different ranges; ``both`` adds an addition that reads them."""

    def __init__(self, function: str, channels: int = 8, multiplier: int = 1, both: bool = False) -> None:
        super().__init__()
        self.function = FUNCTIONS[function]
        self.first = nn.Conv2d(3, channels, 3, padding=1)
        self.depthwise = nn.Conv2d(channels, channels * multiplier, 3, padding=1, groups=channels)
        self.last = nn.Conv2d(channels * multiplier, 4, 1)
        self.both = both
        with torch.no_grad():
            spread = torch.logspace(-1.5, 1.5, channels).reshape(-1, 1, 1, 1)
            self.first.weight.mul_(spread)
            self.first.bias.mul_(spread.flatten())
            self.depthwise.weight.div_(spread.repeat_interleave(multiplier, 0))

    def forward(self, x: Tensor) -> Tensor:
        y = self.function(self.first(x))
        z = self.depthwise(y)
        if self.both:
            z = z + y
        result: Tensor = self.last(torch.relu(z)).mean((2, 3))
        return result


def images(count: int, seed: int = 1) -> Tensor:
    return torch.randn(count, 3, 9, 8, generator=torch.Generator().manual_seed(seed))


def captured(module: nn.Module) -> FloatNetwork:
    return fold(capture(module.eval(), (3, 9, 8)))


def noise(network: FloatNetwork, exact: Tensor) -> float:
    prepared = prepare_captured(network, QuantizeConfig(bits="w8a8"))
    calibrate(prepared, [images(16)])
    with torch.no_grad():
        return float((prepared(images(8, 2)) - exact).square().sum() / exact.square().sum())


@pytest.mark.parametrize("function", FUNCTIONS)
@settings(max_examples=3, deadline=None)
@given(channels=st.integers(2, 9), multiplier=st.integers(1, 2), seed=st.integers(0, 1000))
def test_the_function_stays_and_integers_are_exact(function: str, channels: int, multiplier: int, seed: int) -> None:
    torch.manual_seed(seed)
    plain = captured(Uneven(function, channels, multiplier))
    before = [op.weight.clone() for op in plain if isinstance(op, Conv)]
    scaled, found = scale_channels(plain, [images(8)])
    # In front of the depthwise layer, and behind it.
    assert [entry.gate for entry in found] == [function if function in ("SiLU", "HardSwish") else "", ""]
    x = images(4, 3)
    torch.testing.assert_close(scaled(x), plain(x), rtol=1e-4, atol=1e-4)
    for op, weight in zip((op for op in plain if isinstance(op, Conv)), before, strict=True):
        assert torch.equal(op.weight, weight)
    network = prepare_captured(scaled, QuantizeConfig(bits="w8a8"))
    calibrate(network, [images(8)])
    graph, report = convert(network)
    assert compare(network, graph, report, [x]).largest <= 1
    codes = input_codes(network, x)
    with Engine(graph, threads=1) as engine:
        (result,) = engine.run(codes, integers=True).values()
    np.testing.assert_array_equal(result, interpret(graph, codes)[graph.outputs[0]])
    if function in ("SiLU", "HardSwish"):
        (product,) = (node for node in graph if isinstance(node, Mul))
        readers = graph.consumers()[product.name]
        assert all(isinstance(node, Quantize) for node in readers) and len(readers) == 1


@pytest.mark.parametrize("function", FUNCTIONS)
def test_narrow_channels_keep_their_precision(function: str) -> None:
    torch.manual_seed(0)
    plain = captured(Uneven(function))
    with torch.no_grad():
        exact = plain(images(8, 2)).flatten(1)
    scaled, _ = scale_channels(plain, [images(16)])
    assert noise(scaled, exact) < 0.3 * noise(plain, exact)


def test_values_with_other_readers_and_behind_a_relu6_are_left() -> None:
    torch.manual_seed(0)
    found = scale_channels(captured(Uneven("ReLU", both=True)), [images(2)])[1]
    assert len(found) == 0
    module = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.ReLU6(), nn.Conv2d(4, 4, 3, groups=4), nn.Flatten(), nn.Linear(168, 2)
    )
    assert scale_channels(captured(module), [])[1] == []


def test_it_needs_images() -> None:
    with pytest.raises(QuantizeError, match="channels cannot be scaled by no images"):
        scale_channels(captured(Uneven("ReLU")), [])
