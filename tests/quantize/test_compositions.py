"""Drawn compositions of operations behind a convolution: float, fake-quantized, integer, restored, integer again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import float_networks
import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from test_restore import assert_same
from torch import Tensor, nn
from torch.nn import functional

from nybble.graph import Graph
from nybble.quantize import CaptureError, QuantizeConfig, calibrate, convert, from_graph, prepare
from nybble.quantize.config import Bits
from nybble.quantize.fake.network import QuantizedNetwork
from nybble.quantize.fake.quantizers import ActivationQuantizer
from nybble.quantize.lower.agreement import input_codes
from nybble.quantize.lower.conversion import ConversionReport
from nybble.reference import interpret

SHAPE = (3, 7, 6)
CHANNELS = 6
#: Of one value. Layers are made for each use.
SINGLE: dict[str, Callable[[Composed, nn.Module, Tensor], Tensor]] = {
    "relu": lambda net, layer, x: functional.relu(x),
    "relu6": lambda net, layer, x: functional.relu6(x),
    "clamp": lambda net, layer, x: x.clamp(0.0, 0.7),
    "negate": lambda net, layer, x: -x,
    "scale": lambda net, layer, x: x * 1.7,
    "affine": lambda net, layer, x: x * net.gain + net.offset,
    "max pool": lambda net, layer, x: functional.max_pool2d(x, 3, 1, 1),
    "average pool": lambda net, layer, x: functional.avg_pool2d(x, 3, 1, 1),
    "convolve": lambda net, layer, x: layer(x),
    "silu": lambda net, layer, x: functional.silu(x),
    "gate": lambda net, layer, x: x * torch.sigmoid(x.mean((2, 3), keepdim=True)),
}
#: Of two values; a concatenation is brought back to as many channels by a layer.
DOUBLE: dict[str, Callable[[nn.Module, Tensor, Tensor], Tensor]] = {
    "add": lambda layer, x, y: x + y,
    "subtract": lambda layer, x, y: x - y,
    "multiply": lambda layer, x, y: x * y,
    "join": lambda layer, x, y: layer(torch.cat([x, y], 1)),
}


@dataclass(frozen=True)
class Program:
    """What a network consists of.

    Attributes
    ----------
    calls : tuple of (str, int, int)
        An operation and the values that it reads; value 0 is the first convolution's, value i that of call i - 1.
    ending : str
        How values that nothing reads are brought together.
    head : str
    seed : int
        Of weights and images.
    """

    calls: tuple[tuple[str, int, int], ...]
    ending: str = "join"
    head: str = "usual"
    seed: int = 0

    def unread(self) -> list[int]:
        read = {place for name, *both in self.calls for place in (both if name in DOUBLE else both[:1])}
        return [place for place in range(len(self.calls) + 1) if place not in read]


class Composed(nn.Module):
    """The network of a program."""

    def __init__(self, program: Program) -> None:
        super().__init__()
        self.program = program
        self.first = nn.Conv2d(3, CHANNELS, 3, padding=1)
        made = {"convolve": CHANNELS, "join": 2 * CHANNELS}
        self.layers = nn.ModuleList(
            nn.Conv2d(made[name], CHANNELS, 3, padding=1) if name in made else nn.Identity()
            for name, *_ in program.calls
        )
        self.gain = nn.Parameter(torch.rand(CHANNELS, 1, 1) + 0.3)
        self.offset = nn.Parameter(torch.randn(CHANNELS, 1, 1) * 0.3)
        width = CHANNELS * (len(program.unread()) if program.ending == "join" else 1)
        self.second, self.fc, self.short = nn.Conv2d(width, 8, 3), nn.Linear(8, 5), nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        values = [self.first(x)]
        for (name, left, right), layer in zip(self.program.calls, self.layers, strict=True):
            if name in DOUBLE:
                values.append(DOUBLE[name](layer, values[left], values[right]))
            else:
                values.append(SINGLE[name](self, layer, values[left]))
        ends = [values[place] for place in self.program.unread()]
        y = torch.cat(ends, 1) if self.program.ending == "join" else sum(ends[1:], ends[0])
        if self.program.head == "short":
            return self.short(y.mean((2, 3)))
        y = self.second(y)
        if self.program.head == "pooled":
            return y.mean((2, 3))
        logits = self.fc(functional.relu(y).mean((2, 3)))
        return functional.relu(logits) + functional.relu6(-logits) if self.program.head == "branching" else logits


@st.composite
def programs(draw: st.DrawFn) -> Program:
    calls = []
    for place in range(draw(st.integers(1, 4))):
        earlier = st.integers(0, place)
        calls.append((draw(st.sampled_from([*SINGLE, *DOUBLE])), draw(earlier), draw(earlier)))
    heads = st.sampled_from(["usual", "short", "pooled", "branching"])
    return Program(tuple(calls), draw(st.sampled_from(["join", "add"])), draw(heads), draw(st.integers(0, 99)))


def assert_agree(network: QuantizedNetwork, graph: Graph, report: ConversionReport, x: Tensor) -> None:
    """Each code given identical inputs, and the logits.

    Codes may differ by one where what is rounded lies within the error of the factors of a half; an addition has two
    of its own.
    """
    codes = input_codes(network, x)
    integer = interpret(graph, codes, keep=list(report.values.values()))
    live = {network.INPUT: torch.from_numpy(codes.astype(np.float32)) * network.input_quantizer.step()}
    for step in network.steps:
        inputs = [live[name] for name in step.inputs]
        if not isinstance(step.module, ActivationQuantizer):
            live[step.name] = step.module(*inputs)
            continue
        expected = torch.from_numpy(integer[report.values[step.name]].astype(np.float32))
        own = step.module.codes(inputs[0])
        exact = (inputs[0] / step.module.step()).double()
        from_half = (exact.abs() - exact.abs().floor() - 0.5).abs()
        off = own != expected
        assert float((own - expected).abs().max()) <= 1, step.name
        assert float(from_half[off].max() if bool(off.any()) else 0.0) <= 3 * report.largest_error + 2**-8, step.name
        live[step.name] = expected * step.module.step()
    logits = integer[graph.outputs[0]].reshape(len(x), -1)
    np.testing.assert_allclose(
        live[network.output].flatten(1).numpy(), logits, rtol=1e-3, atol=1e-3 * float(np.abs(logits).max() + 1e-9)
    )


@torch.no_grad()
def check(program: Program, bits: Bits) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(program.seed)
        module = Composed(program).eval()
    x = float_networks.images(SHAPE, 3, program.seed)
    try:
        network = prepare(module, SHAPE, QuantizeConfig(bits=bits))
    except CaptureError as error:
        # Behind pools there are no sums left for a ReLU.
        assume("a ReLU must follow" not in str(error))
        raise
    torch.testing.assert_close(network(x), module(x), rtol=1e-3, atol=1e-4)
    calibrate(network, [x])
    network.set_mode("quantize")
    graph, report = convert(network)
    assert_agree(network, graph, report, x)

    restored = from_graph(graph)
    again, report = convert(restored)
    assert_same(graph, again)
    codes = input_codes(network, x)
    found, expected = (interpret(entry, codes)[entry.outputs[0]] for entry in (again, graph))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6 * float(np.abs(expected).max()))
    assert_agree(restored, again, report, torch.from_numpy(codes.astype(np.float32)) * restored.input_quantizer.step())


@settings(max_examples=min(25, settings().max_examples))
@given(programs(), st.sampled_from(Bits))
def test_what_is_drawn_agrees_and_comes_back(program: Program, bits: Bits) -> None:
    check(program, bits)


def test_each_activation_function_of_a_layer_is_calibrated() -> None:
    module = Composed(Program((("relu", 0, 0), ("clamp", 0, 0)))).eval()
    network = prepare(module, SHAPE)
    steps = [step.module for step in network.steps if isinstance(step.module, ActivationQuantizer)]
    assert {id(found) for found in steps} == {id(found) for found in network.activation_quantizers().values()} - {
        id(network.input_quantizer)
    }


@pytest.mark.parametrize("bits", Bits)
@pytest.mark.parametrize(
    "program",
    [
        Program((("relu6", 0, 0), ("join", 0, 1))),
        Program((("relu", 0, 0), ("negate", 0, 0), ("relu6", 2, 0), ("add", 1, 3))),
        Program((("relu6", 0, 0), ("add", 0, 0)), "add", "short"),
        Program((("relu", 0, 0), ("add", 0, 0), ("subtract", 2, 0)), "join", "branching"),
        Program((("average pool", 0, 0), ("relu6", 0, 0), ("join", 1, 2), ("relu", 0, 0)), "join"),
        Program((("max pool", 0, 0), ("subtract", 1, 0), ("relu6", 0, 1)), "add"),
        Program((("relu", 0, 0), ("subtract", 1, 1), ("clamp", 0, 0)), "add"),
        Program((("gate", 0, 0), ("relu", 0, 0), ("join", 1, 2)), "add"),
        Program((("relu", 0, 0), ("multiply", 0, 1), ("join", 0, 2), ("add", 2, 3)), "join"),
        Program((("silu", 0, 0), ("gate", 1, 0), ("add", 1, 2), ("multiply", 2, 3)), "join"),
        Program((("relu", 0, 0), ("multiply", 1, 0), ("relu", 2, 0)), "join", "short"),
    ],
    ids=[
        "two ranges",
        "both signs",
        "doubled",
        "nested",
        "pooled before it is joined",
        "shortcut of itself",
        "two functions",
        "gated and joined",
        "product joined with its factor",
        "gated, added and multiplied",
        "product rounded twice and joined",
    ],
)
def test_sums_that_are_rounded_several_times(program: Program, bits: Bits) -> None:
    check(program, bits)
