"""Conversion: the integer network against the fake-quantized one, constants of odd channels, names and metadata."""

from __future__ import annotations

from pathlib import Path

import float_networks
import numpy as np
import pytest
import torch
from calibrated_networks import calibrated, set_ranges
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from nybble import Engine
from nybble.graph import (
    Add,
    AvgPool2d,
    Conv2d,
    DType,
    Graph,
    GraphError,
    Linear,
    Quantize,
    Scale,
    read_graph,
    write_graph,
)
from nybble.graph.rescale import rescale
from nybble.quantize.config import Bits, QuantizeConfig
from nybble.quantize.errors import QuantizeError
from nybble.quantize.fake.network import QuantizedNetwork
from nybble.quantize.lower.agreement import compare, input_codes
from nybble.quantize.lower.conversion import ConversionReport
from nybble.quantize.lower.convert import convert
from nybble.quantize.lower.snap import snap_steps
from nybble.quantize.prepare.prepare import prepare
from nybble.reference import interpret


@pytest.mark.parametrize("bits", Bits)
@pytest.mark.parametrize("name", float_networks.NETWORKS)
def test_each_layer_agrees_within_a_step_and_rarely_differs(name: str, bits: Bits) -> None:
    network, shape = calibrated(name, bits)
    graph, report = convert(network)
    found = compare(network, graph, report, [float_networks.images(shape, 8, 9)])
    assert found.largest <= 1
    assert found.off_rate < 2e-4
    assert report.largest_error < 1 / 16
    assert sum(value.count for value in found.values) > 5000
    assert found.same_top1 >= 7 / 8


@pytest.mark.parametrize("name", float_networks.NETWORKS)
def test_steps_that_are_not_snapped_cost_little_more(name: str) -> None:
    network, shape = calibrated(name, Bits.W8A8, "lsq", snapped=False, preset=False)
    graph, report = convert(network)
    found = compare(network, graph, report, [float_networks.images(shape, 8, 9)])
    assert found.largest <= 1
    assert found.off_rate < 2e-2
    assert graph.preprocessing is None
    # Without a tolerance for it, no shift but the best will do.
    _, exact = convert(network, tolerance=0.0)
    assert exact.largest_error <= report.largest_error
    assert exact.largest_error < 1e-2


@pytest.mark.parametrize("bits", [Bits.W4A4, Bits.W8A8])
@pytest.mark.parametrize("name", float_networks.NETWORKS)
def test_the_engine_runs_it_and_the_directory_keeps_it(name: str, bits: Bits, tmp_path: Path) -> None:
    network, shape = calibrated(name, bits)
    network.class_names = tuple(f"class {i}" for i in range(10))
    graph, report = convert(network)
    x = float_networks.images(shape, 3, 11)
    codes = input_codes(network, x)
    expected = interpret(graph, codes)[graph.outputs[0]]
    np.testing.assert_array_equal(Engine(graph, threads=1).run_integer(codes), expected)
    write_graph(graph, tmp_path / "model")
    again = read_graph(tmp_path / "model")
    assert again.class_names == network.class_names
    assert again.preprocessing == network.preprocessing
    np.testing.assert_array_equal(interpret(again, codes)[again.outputs[0]], expected)
    engine = Engine(again, threads=1)
    found = compare(network, again, report, [x], engine=engine)
    assert found.largest <= 1 and found.images == 3


def test_types_and_shifts_are_the_published_ones() -> None:
    network, _ = calibrated("resnet", Bits.W4A4)
    graph, _ = convert(network)
    conv = graph["layer1_0_conv2"]
    assert isinstance(conv, Conv2d) and conv.bias is not None
    assert (conv.input_type, conv.weight.dtype, conv.bias.dtype) == (DType.U4, DType.S4, DType.S16)
    assert {(node.input_type, node.output_type) for node in graph if isinstance(node, Quantize)} == {
        (DType.U31, DType.U4),
        (DType.U31, DType.U7),
        (DType.S32, DType.S8),
        (DType.S8, DType.S32),
        (DType.U4, DType.U31),
    }
    # A layer of 8 x 8 bits may need more; multipliers of 1 and more leave less.
    into_codes = [node for node in graph if isinstance(node, Quantize) and not node.name.startswith("conv1")]
    assert max(node.shift for node in into_codes) == 16
    fc = graph["fc"]
    assert isinstance(fc, Linear) and (fc.input_type, fc.weight.dtype) == (DType.U7, DType.S8)
    assert isinstance(graph["avgpool"], AvgPool2d) and isinstance(graph[graph.outputs[0]], Scale)
    add = graph["layer1_1_add"]
    assert isinstance(add, Add) and add.inputs == ("layer1_1_conv3", "layer1_1_add_shortcut")


class Plain(nn.Module):
    """One convolution of four channels, ReLU, a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3)
        self.fc = nn.Linear(4 * 16, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.relu(self.conv(x)).flatten(1))


def _converted(module: nn.Module, bits: Bits = Bits.W4A4) -> tuple[QuantizedNetwork, Graph, ConversionReport]:
    network = prepare(module, (3, 6, 6), QuantizeConfig(bits=bits))
    set_ranges(network, float_networks.images((3, 6, 6)))
    network.set_mode("quantize")
    return network, *convert(network)


@pytest.mark.parametrize("bits", [Bits.W4A4, Bits.W8A8])
def test_channels_without_weights_keep_their_bias(bits: Bits) -> None:
    module = Plain().eval()
    with torch.no_grad():
        module.conv.weight[0] = 0
        module.conv.weight[1] *= 1e-12
        module.conv.weight[2] = 0
        module.conv.bias.copy_(torch.tensor([0.7, 0.4, 0.0, 0.1]))
    network, graph, report = _converted(module, bits)
    found = compare(network, graph, report, [float_networks.images((3, 6, 6), 8, 3)])
    assert found.largest <= 1 and found.off_rate < 0.02
    values = interpret(graph, input_codes(network, float_networks.images((3, 6, 6))), keep=["conv_quantize"])
    held = values["conv_quantize"] * float(network.activation_quantizers()["conv"].step())
    step = float(network.activation_quantizers()["conv"].step())
    np.testing.assert_allclose(held[:, 0], 0.7, atol=step)
    np.testing.assert_allclose(held[:, 1], 0.4, atol=step)
    assert not held[:, 2].any()


def test_a_layer_of_zeros_converts() -> None:
    module = Plain().eval()
    nn.init.zeros_(module.conv.weight)
    nn.init.zeros_(module.conv.bias)
    network, graph, report = _converted(module)
    found = compare(network, graph, report, [float_networks.images((3, 6, 6))])
    assert found.largest == 0 and found.same_top1 == 1


def test_steps_too_fine_for_their_bias_become_coarser() -> None:
    network, _, _ = _converted(Plain().eval())
    layer = network.layers()["conv"]
    with torch.no_grad():
        # As learning may leave a channel: nothing but a bias.
        layer.weight_quantizer.scale[1] = 1e-11
        layer.weight[1] = 3e-11
        layer.bias[1] = 0.5
    graph, report = convert(network)
    assert report.layers[0].coarser == 1
    found = compare(network, graph, report, [float_networks.images((3, 6, 6), 8, 3)])
    assert found.largest <= 1


def test_a_bias_beyond_its_sums_makes_them_coarser() -> None:
    network, _, _ = _converted(Plain().eval(), Bits.W8A8)
    with torch.no_grad():
        network.layers()["fc"].bias[0] = 1e12
    graph, report = convert(network)
    assert report.layers[1].coarser == 1
    assert graph.values["fc"].magnitude < 2**31
    logits = interpret(graph, input_codes(network, float_networks.images((3, 6, 6))))[graph.outputs[0]]
    np.testing.assert_allclose(logits[:, 0], 1e12, rtol=1e-6)


def test_sums_beyond_32_bits_are_refused_with_the_layers_name() -> None:
    class Wide(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)
            self.fc = nn.Linear(3 * 216 * 216, 2)
            nn.init.ones_(self.fc.weight)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(torch.relu(self.conv(x)).flatten(1))

    network = prepare(Wide(), (3, 216, 216))
    with pytest.raises(GraphError, match="fc: its worst case reaches"):
        convert(network)


def test_diverged_weights_are_refused() -> None:
    network, _, _ = _converted(Plain().eval())
    with torch.no_grad():
        network.layers()["conv"].weight[0, 0, 0, 0] = torch.nan
    with pytest.raises(QuantizeError, match=r"conv: .*NaN"):
        convert(network)


def test_flips_are_listed_with_their_margin() -> None:
    network, graph, report = _converted(Plain().eval())
    x = float_networks.images((3, 6, 6))

    def other(batch: np.ndarray) -> np.ndarray:
        logits = interpret(graph, input_codes(network, torch.from_numpy(batch)))[graph.outputs[0]].copy()
        logits[2] *= -1
        return logits

    found = compare(network, graph, report, [x], engine=other)
    assert [flip.image for flip in found.flips] == [2] and found.same_top1 == 0.75
    assert found.flips[0].margin > 0


def test_snapping_makes_factors_exact_and_settles() -> None:
    network, _ = calibrated("resnet", Bits.W8A8, snapped=False)
    steps = {name: quantizer.scale.clone() for name, quantizer in network.weight_quantizers().items()}
    assert snap_steps(network) >= len(network.layers()) - 2
    for name, quantizer in network.weight_quantizers().items():
        assert bool((quantizer.scale >= steps[name] * (1 - 1e-6)).all())
    exact, _ = convert(network)
    assert {node.shift for node in exact if isinstance(node, Quantize) and node.output_type is DType.U7} == {16}
    before = {name: quantizer.scale.clone() for name, quantizer in network.weight_quantizers().items()}
    snap_steps(network)
    for name, quantizer in network.weight_quantizers().items():
        torch.testing.assert_close(quantizer.scale, before[name])


@given(
    multipliers=st.lists(st.floats(1e-7, 300.0), min_size=1, max_size=8),
    steps=st.sampled_from([7.0, 15.0, 127.0]),
    tolerance=st.sampled_from([0.0, 1 / 64, 1 / 16]),
)
def test_a_factor_is_as_near_as_it_says(multipliers: list[float], steps: float, tolerance: float) -> None:
    values = np.asarray(multipliers)
    chosen = rescale(values, np.full(len(values), steps), tolerance=tolerance)
    real = chosen.factor.numpy() / 2.0**chosen.shift
    assert np.max(np.abs(real - values) / values) * steps == pytest.approx(chosen.error, rel=1e-9, abs=1e-12)
    assert chosen.best_error <= chosen.error
    assert chosen.error <= max(tolerance, chosen.best_error)
    if chosen.shift > 16:
        small = np.rint(values * 2.0**16)
        assert small.max() > DType.U16.maximum or np.max(np.abs(small / 2.0**16 - values) / values) * steps > tolerance


def test_a_multiplier_beyond_32_bits_is_refused() -> None:
    with pytest.raises(GraphError, match="32 bits"):
        rescale(np.array([1e10]), np.array([1.0]))
