"""Functions of one number and products in quantized networks: types, tables, and what is refused."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from float_networks import images
from torch import Tensor, nn
from torch.nn import functional

from nybble.graph import DType, Graph, Mul, Quantize, Table
from nybble.quantize import QuantizedNetwork, QuantizeError, calibrate, convert, prepare
from nybble.quantize.config import QuantizeConfig
from nybble.quantize.errors import CaptureError
from nybble.quantize.fake.network import Step
from nybble.quantize.ops.table import TableFunction

SHAPE = (3, 9, 8)


class Body(nn.Module):
    """Layers around a function that a test gives."""

    def __init__(self, body: object) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.body = body
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.point, self.wide, self.fc = nn.Conv2d(8, 8, 1), nn.Conv2d(16, 8, 1), nn.Linear(8, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.body(self, x).mean((2, 3)))  # type: ignore[operator]


def made(body: object, bits: str = "w4a4") -> tuple[QuantizedNetwork, Graph]:
    network = prepare(Body(body), SHAPE, QuantizeConfig(bits=bits))
    calibrate(network, [images(SHAPE, 8)])
    return network, convert(network)[0]


def tables(graph: Graph) -> list[Table]:
    return [node for node in graph if isinstance(node, Table)]


def functions_of(network: QuantizedNetwork) -> list[Step]:
    return [step for step in network.steps if isinstance(step.module, TableFunction)]


@pytest.mark.parametrize(
    ("bits", "signed", "unsigned"),
    [("w4a4", DType.S4, DType.U4), ("w4a8", DType.S8, DType.U7), ("w8a8", DType.S8, DType.U7)],
)
def test_inputs_have_eight_bits_and_results_the_preset(bits: str, signed: DType, unsigned: DType) -> None:
    _, graph = made(lambda n, x: n.b(torch.sigmoid(n.point(functional.silu(n.a(x))))), bits)
    first, second = tables(graph)
    assert (first.function, second.function) == ("SiLU", "Sigmoid")
    assert (first.input_type, second.input_type) == (DType.S8, DType.S8)
    assert (first.output_type, second.output_type) == (signed, unsigned)


def test_a_function_of_what_a_relu_gives_reads_an_unsigned_type() -> None:
    _, graph = made(lambda n, x: n.b(torch.sqrt(functional.relu(n.a(x)) + 0.25)))
    (table,) = tables(graph)
    assert (table.input_type, table.output_type) == (DType.U7, DType.U4)


def test_a_table_is_the_function_in_float64_rounded_away_from_zero() -> None:
    network, graph = made(lambda n, x: n.b(functional.gelu(n.a(x))))
    (table,) = tables(graph)
    (step,) = functions_of(network)
    readers = {name: entry for entry in network.steps for name in entry.inputs}
    before = next(entry.module for entry in network.steps if entry.name == step.inputs[0])
    unit, result = float(before.step()), float(readers[step.name].module.step())
    x = np.arange(-128, 128) * unit
    steps = (
        np.array([0.5 * v * (1 + float(torch.erf(torch.tensor(v / 2**0.5, dtype=torch.float64)))) for v in x]) / result
    )
    expected = np.clip(np.sign(steps) * np.floor(np.abs(steps) + 0.5), -8, 7)
    np.testing.assert_array_equal(table.table.numpy(), expected)


def test_a_product_has_both_sides_rounded_and_is_rounded_once() -> None:
    _, graph = made(lambda n, x: n.b((y := functional.silu(n.a(x))) * torch.sigmoid(n.point(y.mean((2, 3), True)))))
    (product,) = (node for node in graph if isinstance(node, Mul))
    assert [graph.values[name].shape[1:] for name in product.inputs] == [(9, 8), (1, 1)]
    (reader,) = graph.consumers()[product.name]
    assert isinstance(reader, Quantize)
    # Calibration makes its factors whole numbers at the published shift.
    assert (reader.shift, len(set(reader.factor.numpy().tolist()))) == (16, 1)


def test_joined_functions_share_a_step() -> None:
    network, graph = made(lambda n, x: n.wide(torch.cat([functional.silu(y := n.a(x)), torch.tanh(n.b(y))], 1)))
    assert len(tables(graph)) == 2
    first, second = functions_of(network)
    quantizers = {step.inputs[0]: step.module for step in network.steps}
    assert quantizers[first.name] is quantizers[second.name]


def test_a_function_alone_at_the_end_gives_codes() -> None:
    class End(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 5, 3)

        def forward(self, x: Tensor) -> Tensor:
            return torch.sigmoid(self.conv(x).mean((2, 3)))

    network = prepare(End(), SHAPE)
    calibrate(network, [images(SHAPE, 8)])
    graph, _ = convert(network)
    (table,) = tables(graph)
    assert table.output_type is DType.U7


def test_networks_with_functions_are_copied_and_pickled() -> None:
    """Training in several processes does both."""
    network, _ = made(lambda n, x: n.b((y := n.a(x)) * functional.relu6(y + 3) / 6))
    x = images(SHAPE, 2, 5)
    expected = network(x)
    torch.testing.assert_close(copy.deepcopy(network)(x), expected)
    torch.testing.assert_close(pickle.loads(pickle.dumps(network))(x), expected)


def test_gradients_are_the_functions_own() -> None:
    network, _ = made(lambda n, x: n.b(functional.silu(n.a(x))), "w8a8")
    (step,) = functions_of(network)
    x = torch.linspace(-3, 3, 41, requires_grad=True)
    step.module(x).sum().backward()
    y = x.detach().clone().requires_grad_()
    functional.silu(y).sum().backward()
    torch.testing.assert_close(x.grad, y.grad)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (lambda n, x: n.a(x) * n.point(n.a(x)[:, :, ::2, ::2]), "only values of one shape, or by a gate"),
        (lambda n, x: n.a(x) * n.a(x).mean(1, keepdim=True), "mean.dim"),
    ],
)
def test_what_is_refused_by_capture(body: object, words: str) -> None:
    with pytest.raises(CaptureError, match=words):
        prepare(Body(body), SHAPE)


def test_a_function_of_two_values_is_refused() -> None:
    with pytest.raises(QuantizeError, match="Div of two values has no integer form") as caught:
        prepare(Body(lambda n, x: n.a(x) / n.b(n.a(x))), SHAPE)
    assert "test_functions.py" in str(caught.value)


def test_a_function_that_is_no_number_somewhere_is_refused() -> None:
    module = Body(lambda n, x: n.b(torch.sqrt(n.a(x))))
    # All that arrives is positive, but codes are not.
    nn.init.constant_(module.a.bias, 9.0)
    network = prepare(module, SHAPE)
    calibrate(network, [images(SHAPE, 8)])
    with pytest.raises(QuantizeError, match=r"gives NaN for -\d+.*limit that before"):
        convert(network)
