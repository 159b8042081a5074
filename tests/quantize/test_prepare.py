"""Prepared networks: the same answers in floating point, the types of the description, configuration both ways."""

from __future__ import annotations

import copy
from pathlib import Path

import float_networks
import pytest
import tiny_networks
import torch
from torch import nn

from nybble.graph import DType, Preprocessing
from nybble.quantize.config import ActivationConfig, Bits, LayerConfig, QuantizeConfig
from nybble.quantize.errors import QuantizeError
from nybble.quantize.fake.network import QuantizedNetwork
from nybble.quantize.prepare.prepare import prepare


@pytest.mark.parametrize(
    ("name", "bits"), [*((name, Bits.W4A4) for name in float_networks.NETWORKS), ("odd", Bits.MIXED)]
)
def test_in_floating_point_it_answers_as_the_module(name: str, bits: Bits) -> None:
    module, shape = float_networks.make(name)
    network = prepare(module, shape, QuantizeConfig(bits=bits))
    x = float_networks.images(shape)
    torch.testing.assert_close(network(x), module(x), rtol=1e-4, atol=1e-4)


def _types(name: str, bits: Bits) -> tuple[dict[str, int], dict[str, DType]]:
    module, shape = float_networks.make(name)
    network = prepare(module, shape, QuantizeConfig(bits=bits), Preprocessing(crop=shape[1:], resize=40))
    weights = {name: quantizer.bits for name, quantizer in network.weight_quantizers().items()}
    return weights, {name: quantizer.dtype for name, quantizer in network.activation_quantizers().items()}


def test_four_bits_as_the_published_network_has_them() -> None:
    weights, activations = _types("resnet", Bits.W4A4)
    assert weights["conv1"] == 8 and weights["fc"] == 8
    assert {bits for name, bits in weights.items() if name not in ("conv1", "fc")} == {4}
    assert activations["conv1"] is DType.U4
    assert activations["layer1.0.downsample.0"] is DType.S8
    assert activations["layer1.0.add"] is DType.U4
    assert activations["layer2.0.add"] is DType.U7


def test_linear_bottlenecks_are_signed_and_mixed_keeps_depthwise_layers_in_eight_bits() -> None:
    weights, activations = _types("lite", Bits.MIXED)
    assert weights["blocks.1.depthwise"] == 8 and weights["blocks.1.expand"] == 4
    assert activations["blocks.1.expand"] is DType.U7  # the depthwise layer reads it
    assert activations["blocks.1.depthwise"] is DType.U4
    assert activations["blocks.1.add"] is DType.S4
    weights, activations = _types("lite", Bits.W4A8)
    assert weights["blocks.1.depthwise"] == 4
    assert activations["blocks.1.add"] is DType.S8
    assert set(_types("lite", Bits.W8A8)[0].values()) == {8}


def test_what_is_joined_has_one_quantizer() -> None:
    module, shape = float_networks.make("fire")
    network = prepare(module, shape)
    steps = {step.name: step.module for step in network.steps}
    first, second = (steps[f"features.3.expand{size}.quantize"] for size in ("1x1", "3x3"))
    assert first is second and first is network.activation_quantizers()["features.3.cat"]
    assert network.layers()["features.4.squeeze"].input_quantizer is first
    seen: list[tuple[int, ...]] = []
    network.activation_quantizers()["features.3.cat"].observer = lambda x: seen.append(tuple(x.shape))
    network(float_networks.images(shape, 2))
    assert seen == [(2, 8, 4, 5), (2, 9, 4, 5)]
    # One parameter, however often it is used.
    learned = prepare(module, shape, QuantizeConfig(method="lsq"))
    assert sum("scale" in name for name, _ in learned.named_parameters()) == 6 + len(learned.layers())


def test_what_clips_elsewhere_and_the_image_are_rounded_once_more() -> None:
    network = prepare(*float_networks.make("branches"))
    steps = {step.name: step for step in network.steps}
    activations = network.activation_quantizers()
    assert list(activations) == ["input", "cat", "second", "cat_3"]
    assert (activations["second"].limit, activations["cat"].limit) == (6.0, None)
    # The image has negative values.
    assert (activations["cat"].dtype, activations["second"].dtype) == (DType.S4, DType.U4)
    assert steps["cat_2"].inputs == ("cat_2.rescale", "cat", "cat_2.rescale_2")
    assert steps["cat_2.rescale"].inputs == ("second.quantize",) and steps["cat_2.rescale_2"].inputs == ("max_pool2d",)
    assert steps["cat_2.rescale"].module is activations["cat"]


def test_an_average_that_makes_the_logits_is_not_rounded() -> None:
    module, shape = float_networks.make("fire")
    network = prepare(module, shape, QuantizeConfig(bits=Bits.W8A8))
    x = float_networks.images(shape)
    for quantizer in network.activation_quantizers().values():
        quantizer.set_range(4.0)
    network.set_mode("quantize")
    counts = (network(x) / network.activation_quantizers()["classifier.1"].step()).double() * 20
    assert bool((counts - counts.round()).abs().max() < 1e-2) and not bool((counts % 20 == 0).all())


def test_configuration_is_filled_in_and_obeyed(tmp_path: Path) -> None:
    module, shape = float_networks.make("resnet")
    network = prepare(module, shape, QuantizeConfig(bits=Bits.W4A8, method="lsq"))
    file = tmp_path / "config.yaml"
    network.config.save(file)
    config = QuantizeConfig.load(file)
    assert config == network.config
    assert config.layers.keys() == network.layers().keys()
    config.layers["layer1.0.conv2"] = LayerConfig(weight_bits=8)
    config.activations["layer1.0.conv1"] = ActivationConfig(dtype=DType.U4, shift=18)
    changed = prepare(module, shape, config)
    assert changed.weight_quantizers()["layer1.0.conv2"].bits == 8
    assert changed.activation_quantizers()["layer1.0.conv1"].dtype is DType.U4
    assert changed.activation_quantizers()["layer1.0.conv1"].shift == 18
    assert isinstance(changed.weight_quantizers()["fc"].scale, nn.Parameter)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("layers: {nothing: {weight_bits: 4}}", "'nothing'"),
        ("activations: {layer1.0.downsample.0: {dtype: u4}}", "activations.layer1.0.downsample.0"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(text: str, word: str) -> None:
    with pytest.raises(QuantizeError, match=word):
        prepare(*float_networks.make("resnet"), QuantizeConfig.parse(text))


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("layers: {conv1: {weight_bits: 9}}", "layers.conv1.weight_bits"),
        ("activations: {conv1: {dtype: s32}}", "activations.conv1.dtype"),
        ("bits: w2a2", "bits"),
        ("colour: red", "colour"),
        ("[1, 2]", "mapping"),
        ("a: [", "is not YAML"),
    ],
)
def test_a_broken_configuration_names_the_field(text: str, word: str) -> None:
    with pytest.raises(QuantizeError, match=word):
        QuantizeConfig.parse(text)


def test_preprocessing_must_make_the_networks_images() -> None:
    with pytest.raises(QuantizeError, match="224"):
        prepare(*float_networks.make("resnet"), preprocessing=Preprocessing())


def test_a_copy_has_quantizers_of_its_own() -> None:
    network = prepare(*float_networks.make("cifar"))
    other = copy.deepcopy(network)
    layer = other.layers()["blocks.0.conv2"]
    assert layer.input_quantizer is other.activation_quantizers()["blocks.0.conv1"]
    assert layer.input_quantizer is not network.activation_quantizers()["blocks.0.conv1"]


def test_batch_norm_is_estimated_as_torch_does_it() -> None:
    module, shape = float_networks.make("resnet")
    batches = [float_networks.images(shape, 8, seed) for seed in (3, 4)]
    network = prepare(module, shape)
    network.reestimate_batch_norm(batches)
    for child in module.modules():
        if isinstance(child, nn.BatchNorm2d):
            child.reset_running_stats()
            child.momentum = None
    module.train()
    with torch.no_grad():
        for batch in batches:
            module(batch)
    module.eval()
    x = float_networks.images(shape, 4, 5)
    torch.testing.assert_close(network(x), module(x), rtol=1e-3, atol=1e-4)
    # Weights may change no more by doing it again.
    before = network.layers()["conv1"].weight.detach().clone()
    network.reestimate_batch_norm(batches)
    torch.testing.assert_close(network.layers()["conv1"].weight.detach(), before, rtol=1e-4, atol=1e-6)
    with pytest.raises(QuantizeError, match="no images"):
        network.reestimate_batch_norm([])


def test_clip_mode_clips_and_does_not_round() -> None:
    module, shape = float_networks.make("cifar")
    network = prepare(module, shape)
    x = float_networks.images(shape)
    for quantizer in network.activation_quantizers().values():
        quantizer.set_range(0.5)
    network.set_mode("clip")
    name = "conv1.quantize"
    clipped = network.run({"input": x}, keep=[name], stop=name)[name].detach()
    network.set_mode("float")
    free = network.run({"input": x}, keep=[name], stop=name)[name].detach()
    torch.testing.assert_close(clipped, free.clamp(0, 0.5))
    assert free.max() > 0.5


def _changed(**renamed: str) -> QuantizedNetwork:
    """A small network in which modules of some steps have other names, and steps that begin with ``step_``."""
    base = tiny_networks.network()
    steps = []
    for step in base.steps:
        if step.name in renamed:
            step.module.name = renamed[step.name]  # type: ignore[assignment]
        steps.append(step._replace(name=renamed.get(f"step_{step.name}", step.name)))
    return QuantizedNetwork(steps, base.input_quantizer, base.input_shape, base.config)


@pytest.mark.parametrize(
    ("renamed", "text"),
    [
        ({"relu2": "relu1"}, "relu2: two quantizers are called 'relu1'"),
        ({"relu1": "input"}, "relu1: two quantizers are called 'input'"),
        ({"conv2": "conv1"}, "conv2: two layers are called 'conv1'"),
        ({"step_fc": "input"}, "a step must not be called 'input'"),
        ({"step_fc": "conv1"}, "two steps of the network have the same name"),
    ],
)
def test_no_name_hides_another(renamed: dict[str, str], text: str) -> None:
    assert _changed().activation_quantizers().keys() == {"input", "relu1", "relu2"}
    with pytest.raises(QuantizeError, match=text):
        _changed(**renamed)
