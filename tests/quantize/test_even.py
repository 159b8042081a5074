"""Channels of one size in every value: the same function, no wider ranges, less noise, exact in the engine."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from nybble import Engine
from nybble.quantize import QuantizeConfig, calibrate, convert
from nybble.quantize.errors import QuantizeError
from nybble.quantize.ir.float_network import INPUT, ChannelDivision, Conv, FloatNetwork
from nybble.quantize.ir.fold import fold
from nybble.quantize.lower.agreement import compare, input_codes
from nybble.quantize.prepare.prepare import prepare_captured
from nybble.quantize.ptq.even import even_channels
from nybble.quantize.sources.pytorch.capture import capture
from nybble.reference import interpret

#: What may stand between a layer and a concatenation, as (channels before for one behind, module).
BETWEEN: dict[str, tuple[int, Any]] = {
    "nothing": (1, lambda count: nn.Identity()),
    "relu": (1, lambda count: nn.ReLU()),
    "relu6": (1, lambda count: nn.ReLU6()),
    "prelu": (1, lambda count: nn.PReLU(count, init=0.3)),
    "max pool": (1, lambda count: nn.MaxPool2d(3, 1, 1)),
    "average": (1, lambda count: nn.AvgPool2d(3, 1, 1)),
    "silu": (1, lambda count: nn.SiLU()),
    "shuffle": (4, lambda count: nn.Sequential(nn.PixelShuffle(2), nn.AvgPool2d(2))),
    "enlarged": (1, lambda count: nn.Sequential(nn.MaxPool2d(2), nn.Upsample(scale_factor=2, mode="bilinear"))),
}
READERS = ("norm", "norm and prelu", "pointwise", "grouped", "added")


class Joined(nn.Module):
    """Parts of very different ranges, the pooled image perhaps among them, beside each other, and what reads them."""

    def __init__(self, parts: list[str], reader: str, image: bool, twice: bool) -> None:
        super().__init__()
        self.image, self.twice, self.reader = image, twice, reader
        self.layers, self.between = nn.ModuleList(), nn.ModuleList()
        for place, part in enumerate(parts):
            factor, make = BETWEEN[part]
            layer = nn.Conv2d(3, 4 * factor, 3, padding=1)
            with torch.no_grad():
                spread = torch.logspace(-1, 1, 4 * factor) * 4.0 ** (place - 1)
                layer.weight.mul_(spread.reshape(-1, 1, 1, 1))
                layer.bias.mul_(spread)
            self.layers.append(layer)
            self.between.append(make(4 * factor))
        count = 4 * len(parts) + 3 * image
        self.norm = nn.BatchNorm2d(count, momentum=None)
        nn.init.uniform_(self.norm.weight, 0.5, 2.0)
        nn.init.uniform_(self.norm.bias, -1.0, 1.0)
        self.prelu = nn.PReLU(count, init=0.2)
        self.pointwise = nn.Conv2d(count, 6, 1)
        self.grouped = nn.Conv2d(count, count, 3, padding=1, groups=count)
        self.side = nn.Conv2d(3, count, 1)
        self.again = nn.Conv2d(4, 5, 1)
        self.last = nn.LazyLinear(4)

    def forward(self, x: Tensor) -> Tensor:
        made = [after(layer(x)) for layer, after in zip(self.layers, self.between, strict=True)]
        parts = [*made, *([functional.avg_pool2d(x * 1.0, 3, 1, 1)] if self.image else [])]
        y = torch.cat(parts, 1)
        if self.reader.startswith("norm"):
            y = self.norm(y)
            y = self.prelu(y) if self.reader == "norm and prelu" else torch.relu(y)
        elif self.reader == "pointwise":
            y = self.pointwise(y)
        elif self.reader == "grouped":
            y = torch.relu(self.grouped(y))
        else:
            y = self.norm(y + torch.relu(self.side(x)))
        if self.twice:
            y = torch.cat([torch.relu(y), torch.relu(self.again(made[0]))], 1)
        result: Tensor = self.last(y.mean((2, 3)))
        return result


def images(count: int, seed: int = 1) -> Tensor:
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def captured(module: nn.Module) -> FloatNetwork:
    # Norms take their statistics, so that narrow channels matter as much as wide ones.
    with torch.no_grad():
        module.train()(images(16))
    return fold(capture(module.eval(), (3, 8, 8)))


def ranges(network: FloatNetwork, x: Tensor) -> dict[str, float]:
    values, found = {INPUT: x}, {}
    for op in network:
        values[op.name] = op(*(values[name] for name in op.inputs))
        found[op.name] = float(values[op.name].abs().max())
    return found


def rounded(network: FloatNetwork) -> Any:
    prepared = prepare_captured(network, QuantizeConfig(bits="w8a8"))
    calibrate(prepared, [images(16)])
    return prepared


def noise(network: FloatNetwork, exact: Tensor) -> float:
    with torch.no_grad():
        return float((rounded(network)(images(8, 2)) - exact).square().sum() / exact.square().sum())


@pytest.mark.parametrize("reader", READERS)
@settings(max_examples=2, deadline=None)
@given(
    parts=st.lists(st.sampled_from(sorted(BETWEEN)), min_size=1, max_size=3),
    image=st.booleans(),
    twice=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_the_function_stays_and_integers_are_exact(
    reader: str, parts: list[str], image: bool, twice: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    plain = captured(Joined(parts, reader, image, twice))
    before = [op.weight.clone() for op in plain if isinstance(op, Conv)]
    even, _ = even_channels(plain, [images(8)])
    x = images(4, 3)
    torch.testing.assert_close(even(x), plain(x), rtol=1e-4, atol=1e-4)
    for op, weight in zip((op for op in plain if isinstance(op, Conv)), before, strict=True):
        assert torch.equal(op.weight, weight)
    network = rounded(even)
    graph, report = convert(network)
    assert compare(network, graph, report, [x]).largest <= 1
    codes = input_codes(network, x)
    with Engine(graph, threads=1) as engine:
        (result,) = engine.run(codes, integers=True).values()
    np.testing.assert_array_equal(result, interpret(graph, codes)[graph.outputs[0]])


def test_a_narrow_part_keeps_its_precision() -> None:
    torch.manual_seed(0)
    plain = captured(Joined(["prelu", "relu", "nothing"], "norm and prelu", image=True, twice=False))
    with torch.no_grad():
        exact = plain(images(8, 2)).flatten(1)
    even, found = even_channels(plain, [images(16)])
    assert "cat" in " ".join(entry.name for entry in found).lower()
    assert noise(even, exact) < 0.3 * noise(plain, exact)


@settings(max_examples=2, deadline=None)
@given(parts=st.lists(st.sampled_from(["nothing", "relu", "prelu", "average"]), min_size=2, max_size=3))
def test_no_joined_range_grows(parts: list[str]) -> None:
    torch.manual_seed(1)
    plain = captured(Joined(parts, "norm", image=False, twice=False))
    x = images(8)
    even, _ = even_channels(plain, [x])
    before, behind = ranges(plain, x), ranges(even, x)
    (joined,) = (op.name for op in plain if type(op).__name__ == "Concat")
    assert behind[joined] <= before[joined] * 1.0001


def weights_change(module: nn.Module) -> bool:
    plain = captured(module)
    even, _ = even_channels(plain, [images(8)])
    pairs = zip((op for op in plain if isinstance(op, Conv)), (op for op in even if isinstance(op, Conv)), strict=True)
    return any(not torch.equal(old.weight, new.weight) for old, new in pairs)


class Between(nn.Module):
    """A function between two layers."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.first, self.second, self.function = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), function

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.second(self.function(self.first(x))).mean((2, 3))
        return result


@pytest.mark.parametrize("function", [functional.relu6, functional.silu, torch.sigmoid, lambda x: x * torch.sigmoid(x)])
def test_what_is_not_homogeneous_is_left(function: Any) -> None:
    torch.manual_seed(0)
    assert not weights_change(Between(function))
    assert weights_change(Between(torch.relu))


def test_the_pooled_image_is_divided_where_it_is_joined() -> None:
    torch.manual_seed(0)
    plain = captured(Joined(["relu"], "norm", image=True, twice=False))
    even, _ = even_channels(plain, [images(8)])
    (division,) = (op for op in even if isinstance(op, ChannelDivision))
    assert division.inputs[0] in {op.name for op in plain}
    assert not any(isinstance(op, ChannelDivision) for op in plain)


def test_it_needs_images() -> None:
    with pytest.raises(QuantizeError, match="channels cannot be scaled by no images"):
        even_channels(captured(Joined(["relu"], "norm", image=False, twice=False)), [])
