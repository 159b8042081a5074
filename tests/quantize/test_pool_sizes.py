"""Pools of every window, padding and map that PyTorch takes: torch, the prepared network and the integers agree."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from nybble import Engine
from nybble.graph import AvgPool2d, MaxPool2d, Padding, Pair
from nybble.quantize.calibrate.calibration import calibrate
from nybble.quantize.config import QuantizeConfig
from nybble.quantize.ir import vocabulary
from nybble.quantize.ir.float_network import INPUT, FloatNetwork, Op
from nybble.quantize.ir.fold import fold
from nybble.quantize.ir.vocabulary import Translation
from nybble.quantize.lower.agreement import compare, input_codes
from nybble.quantize.lower.convert import convert
from nybble.quantize.ops import avg_pool, max_pool
from nybble.quantize.prepare.prepare import prepare, prepare_captured
from nybble.quantize.sources.pytorch.capture import capture
from nybble.reference import interpret


class Pool(NamedTuple):
    """A pool as PyTorch takes it, with zeros around the image before it."""

    size: tuple[int, int]
    window: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    zeros: tuple[int, int, int, int]
    ceil_mode: bool
    counted: bool
    largest: bool

    def __call__(self, x: Tensor) -> Tensor:
        x = functional.pad(x, self.zeros)
        if self.largest:
            return functional.max_pool2d(x, self.window, self.stride, self.padding, 1, self.ceil_mode)
        return functional.avg_pool2d(x, self.window, self.stride, self.padding, self.ceil_mode, self.counted)


@st.composite
def pools(draw: st.DrawFn, largest: bool | None = None) -> Pool:
    """Windows of 1 to 5, maps of 1 to 6, padding up to half the window, zeros before on any side."""
    window = (draw(st.integers(1, 5)), draw(st.integers(1, 5)))
    pool = Pool(
        size=(draw(st.integers(1, 6)), draw(st.integers(1, 6))),
        window=window,
        stride=(draw(st.integers(1, 3)), draw(st.integers(1, 3))),
        padding=(draw(st.integers(0, window[0] // 2)), draw(st.integers(0, window[1] // 2))),
        zeros=draw(st.one_of(st.just((0, 0, 0, 0)), st.tuples(*[st.integers(0, 2)] * 4))),
        ceil_mode=draw(st.booleans()),
        counted=draw(st.booleans()),
        largest=draw(st.booleans()) if largest is None else largest,
    )
    try:
        pool(torch.zeros(1, 1, *pool.size))
    except RuntimeError:
        # The window does not fit: PyTorch does not take it.
        assume(False)
    return pool


def network_of(pool: Pool, rectified: bool, joined: bool, seed: int) -> FloatNetwork:
    """A convolution, the pool (beside a convolution perhaps), and a linear layer."""
    generator = torch.Generator().manual_seed(seed)
    network = FloatNetwork((3, *pool.size))

    def add(op: Op) -> str:
        op.name = f"v{len(network.ops)}"
        network.ops.append(op)
        return op.name

    def put(result: object) -> Translation:
        assert not isinstance(result, Tensor)
        return vocabulary.settled(result, add)  # type: ignore[arg-type]

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    x = put(vocabulary.conv(Translation(INPUT, network.input_shape), drawn(4, 3, 1, 1), drawn(4)))
    if rectified:
        x = put(vocabulary.clip(x, 0.0, None))
    left, right, top, bottom = pool.zeros
    y = put(vocabulary.pad(x, Padding(top, left, bottom, right)))
    window, stride = Pair(*pool.window), Pair(*pool.stride)
    sides = Padding(*pool.padding, *pool.padding)
    if pool.largest:
        y = put(vocabulary.max_pool(y, window, stride, sides, ceil_mode=pool.ceil_mode))
    else:
        y = put(vocabulary.average_pool(y, window, stride, sides, pool.ceil_mode, pool.counted))
    if joined and y.extents[1:] == pool.size:
        y = put(vocabulary.concat([y, put(vocabulary.clip(put(vocabulary.conv(x, drawn(5, 4, 1, 1))), 0.0, None))], 1))
    features = math.prod(y.extents)
    put(vocabulary.dense(vocabulary.reshape(y, (features,)), drawn(6, features)))
    return network


def expected_of(network: FloatNetwork, pool: Pool, x: Tensor) -> Tensor:
    """What torch says of the same operations."""
    first, last = network.ops[0], network.ops[-1]
    y = functional.conv2d(x, first.weight, first.bias)  # type: ignore[attr-defined]
    y = y.relu() if type(network.ops[1]).__name__ == "Rectifier" else y
    z = pool(y)
    joins = next((op for op in network if type(op).__name__ == "Concat"), None)
    if joins is not None:
        beside = network.ops[network.ops.index(joins) - 2]
        z = torch.cat([z, functional.conv2d(y, beside.weight).relu()], 1)  # type: ignore[attr-defined]
    return functional.linear(z.flatten(1), last.weight)  # type: ignore[attr-defined]


@given(pool=pools(), rectified=st.booleans(), joined=st.booleans(), bits=st.sampled_from(("w4a4", "w8a8")))
def test_all_sizes_agree(pool: Pool, rectified: bool, joined: bool, bits: str) -> None:
    captured = network_of(pool, rectified, joined, seed=0)
    x = torch.randn(3, *captured.input_shape, generator=torch.Generator().manual_seed(1))
    expected = expected_of(captured, pool, x)
    torch.testing.assert_close(captured(x), expected, rtol=1e-4, atol=1e-4)
    folded = fold(captured)
    torch.testing.assert_close(folded(x), expected, rtol=1e-4, atol=1e-4)
    network = prepare_captured(folded, QuantizeConfig(bits=bits))
    torch.testing.assert_close(network(x), expected, rtol=1e-4, atol=1e-4)

    calibrate(network, [x])
    graph, report = convert(network)
    codes = input_codes(network, x)
    values = interpret(graph, codes, keep=[node.name for node in graph])
    np.testing.assert_array_equal(Engine(graph, threads=1).run_integer(codes), values[graph.outputs[0]])
    # Given the same codes, the fake-quantized pool makes the integer one's.
    for step in network.steps:
        if not isinstance(step.module, avg_pool.AvgPool2d | max_pool.MaxPool2d):
            continue
        name = report.values[step.name]
        node = next(node for node in graph if node.name == name)
        assert isinstance(node, AvgPool2d | MaxPool2d)
        made = step.module(torch.from_numpy(values[node.inputs[0]].astype(np.float32)) * 0.37)
        if isinstance(step.module, avg_pool.AvgPool2d):
            network.set_mode("quantize")
            scale = step.module.quantizer.step().item()
            made = step.module(torch.from_numpy(values[node.inputs[0]].astype(np.float32)) * scale) / scale
            network.set_mode("float")
        else:
            made = made / 0.37
        np.testing.assert_array_equal(made.round().detach().numpy(), values[name])
        np.testing.assert_allclose(made.detach().numpy(), values[name], atol=1e-4)


class Branches(nn.Module):
    """As in Inception: an average pool beside a convolution."""

    def __init__(self, size: int, counted: bool) -> None:
        super().__init__()
        self.size = size
        self.stem, self.left, self.right = (
            nn.Conv2d(3, 8, 3, padding=1),
            nn.Conv2d(8, 4, 1),
            nn.Conv2d(8, 4, 3, padding=1),
        )
        self.pool, self.fc = nn.AvgPool2d(3, 1, 1, count_include_pad=counted), nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.max_pool2d(functional.relu(self.stem(x)), 12 // self.size)
        x = torch.cat([functional.relu(self.left(self.pool(x))), functional.relu(self.right(x))], 1)
        return self.fc(x.mean((2, 3)))


@pytest.mark.parametrize("counted", [False, True])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_an_average_pool_on_a_map_that_is_smaller_than_its_window(size: int, counted: bool) -> None:
    torch.manual_seed(0)
    module = Branches(size, counted).eval()
    x = torch.randn(8, 3, 12, 12)
    network = prepare(module, (3, 12, 12), QuantizeConfig(bits="w8a8"))
    expected = module(x).detach()
    torch.testing.assert_close(network(x), expected, rtol=1e-4, atol=1e-5)
    calibrate(network, [x])
    graph, report = convert(network)
    assert compare(network, graph, report, [x]).off_rate < 1e-3
    logits = Engine(graph, threads=1).run_integer(input_codes(network, x))
    assert np.corrcoef(logits.ravel(), expected.numpy().ravel())[0, 1] > 0.99
    network.set_mode("clip")
    assert torch.corrcoef(torch.stack([network(x).detach().ravel(), expected.ravel()]))[0, 1] > 0.99


class Global(nn.Module):
    """Pools over all of the image, averaged and largest, and one that skips."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.avg_pool2d(functional.relu(self.conv(x)), 3, 2, 1)
        return self.fc(torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1))


@pytest.mark.parametrize("size", [(12, 12), (8, 8), (7, 10), (2, 3), (1, 1)])
def test_smaller_crops_in_training(size: tuple[int, int]) -> None:
    """What is prepared for one size is trained with smaller images: pools over all of the image stay that."""
    torch.manual_seed(0)
    module = Global().eval()
    network = prepare(module, (3, 12, 12))
    x = torch.randn(2, 3, *size)
    torch.testing.assert_close(network(x), module(x), rtol=1e-4, atol=1e-5)
    network.train()(x).sum().backward()
    assert capture(module, (3, *size))(x).shape == (2, 10)
