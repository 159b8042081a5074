"""Schedule, parameter groups, loss, averages, statistics: each against its definition."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from tiny_networks import network
from torch.nn import functional

from nybble.graph import DType, Pair
from nybble.quantize.fake.quantizers import ActivationQuantizer, WeightQuantizer
from nybble.quantize.fake.weighted import QuantizedConv2d
from nybble.quantize.ops.avg_pool import AvgPool2d
from nybble.quantize.ops.relu import ReLU
from nybble.quantize.settings import TrainingConfig
from nybble.quantize.train.average import WeightAverage
from nybble.quantize.train.loss import damping_loss, feature_loss, loss, mixed
from nybble.quantize.train.optimizer import make_optimizer, parameter_groups
from nybble.quantize.train.schedule import rate, set_rate
from nybble.statistics import Discordance, Share


def test_schedule() -> None:
    rates = [rate(step, 100, 10, 0.1) for step in range(100)]
    np.testing.assert_allclose(rates[:10], (np.arange(10) + 1) / 11)
    assert rates[10] == 1
    assert rates[55] == pytest.approx(0.1 + 0.9 * 0.5)
    assert all(one >= other for one, other in itertools.pairwise(rates[10:]))
    assert 0.1 < rates[99] < 0.102
    assert rate(100, 100, 10, 0.1) == pytest.approx(0.1)
    assert rate(0, 10, 0, 0) == 1


def test_rates_of_groups() -> None:
    config = TrainingConfig(epochs=2, warmup_epochs=0, learning_rate=0.5, scale_rate=0.1, weight_decay=0.3)
    optimizer = make_optimizer(network("lsq"), config)
    assert set_rate(optimizer, config, 0, 10) == 0.5
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.5, pytest.approx(0.05)]


def test_a_rate_of_zero_leaves_steps_alone() -> None:
    prepared = network("lsq")
    scales = {id(entry) for name, entry in prepared.named_parameters() if name.endswith(".scale")}
    trained = {
        id(entry) for group in parameter_groups(prepared, TrainingConfig(scale_rate=0)) for entry in group["params"]
    }
    assert scales
    assert not scales & trained


@pytest.mark.parametrize("method", ["ste", "lsq"])
def test_only_weights_decay(method: str) -> None:
    prepared = network(method)
    groups = parameter_groups(prepared, TrainingConfig(weight_decay=0.3))
    names = {id(parameter): name for name, parameter in prepared.named_parameters()}
    decayed = {names[id(entry)] for group in groups if group["weight_decay"] for entry in group["params"]}
    assert len(decayed) == 3
    assert all(name.endswith(".weight") for name in decayed)
    rest = {names[id(entry)] for group in groups if not group["weight_decay"] for entry in group["params"]}
    assert {name.rpartition(".")[2] for name in rest} == ({"bias", "scale"} if method == "lsq" else {"bias"})
    assert len(decayed) + len(rest) == len(names)


def test_loss_is_its_formula() -> None:
    random = torch.Generator().manual_seed(0)
    logits, teacher = (torch.randn(5, 4, generator=random, dtype=torch.float32) for _ in range(2))
    labels = torch.tensor([0, 1, 2, 3, 1])
    logp = functional.log_softmax(logits, 1)
    target = torch.full((5, 4), 0.1 / 4).scatter_add(1, labels[:, None], torch.full((5, 1), 0.9))
    smooth = -(target * logp).sum(1).mean()
    config = TrainingConfig(label_smoothing=0.1, distillation=0.3, temperature=2.0)
    torch.testing.assert_close(loss(logits, labels, None, config), smooth)
    p, q = functional.softmax(teacher / 2, 1), functional.softmax(logits / 2, 1)
    divergence = (p * (p / q).log()).sum(1).mean()
    torch.testing.assert_close(loss(logits, labels, teacher, config), 0.7 * smooth + 0.3 * 4 * divergence)
    config.distillation = 1.0
    torch.testing.assert_close(loss(logits, labels, teacher, config), 4 * divergence)


def test_average_is_its_recurrence() -> None:
    prepared = network()
    average = WeightAverage(prepared, 0.5)
    weight = prepared.layers()["conv1"].weight
    expected, live = weight.detach().clone(), weight.detach().clone()
    for step in range(1, 6):
        with torch.no_grad():
            weight.add_(step)
        live += step
        average.update(prepared)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * live
    with average.applied(prepared):
        torch.testing.assert_close(weight.detach(), expected)
    assert torch.equal(weight.detach(), live)
    twin = WeightAverage(network(seed=1), 0.5)
    twin.load_state_dict(average.state_dict())
    assert twin.updates == 5
    assert all(torch.equal(twin.values[name], value) for name, value in average.values.items())


def test_discordant_pairs() -> None:
    pairs = Discordance(20, 5, 500)
    assert pairs.difference == pytest.approx(-0.03)
    low, high = pairs.interval
    assert low < -0.03 < high < 0
    # scipy.stats.binomtest(5, 25).pvalue
    assert pairs.p_value == pytest.approx(0.004077315330505371, rel=1e-9)
    assert Discordance(0, 0, 10).p_value == 1
    assert Discordance(3, 3, 10).p_value == 1
    # Beyond what a float's range allows for 2 ** pairs.
    assert Discordance(1000, 1000, 5000).p_value == 1
    assert 0 < Discordance(1200, 1000, 5000).p_value < 1e-4
    assert "only the first right 20, only the second 5" in str(pairs)
    assert math.isclose(Share(1, 2).value, 0.5)


def test_features_are_compared_by_their_energy() -> None:
    wanted = {"a": torch.full((2, 3), 2.0), "b": torch.tensor([3.0, 4.0])}
    values = {"a": torch.full((2, 3), 1.0), "b": torch.tensor([3.0, 4.0])}
    assert float(feature_loss(values, wanted)) == pytest.approx((0.25 + 0) / 2)


def test_damping_pulls_weights_to_their_codes() -> None:
    conv = QuantizedConv2d(
        "conv", torch.zeros(1, 4, 1, 1), None, WeightQuantizer(1, 4), ActivationQuantizer("x", DType.U4)
    )
    conv.weight.data.copy_(torch.tensor([0.2, -0.6, 3.0, 9.0]).reshape(1, 4, 1, 1))
    conv.weight_quantizer.set_range(torch.tensor([7.0]))
    eight = QuantizedConv2d("eight", torch.full((1, 1, 1, 1), 0.3), None, WeightQuantizer(1, 8), conv.input_quantizer)
    found = damping_loss([conv, eight])
    assert float(found.detach()) == pytest.approx(0.2**2 + 0.4**2)
    found.backward()
    assert conv.weight.grad is not None and eight.weight.grad is None
    # Towards 0 and -1; 3 lies on a code, 9 beyond them.
    np.testing.assert_allclose(conv.weight.grad.flatten(), [0.4, 0.8, 0, 0], atol=1e-6)


def test_mixed_images_are_blends_of_two() -> None:
    images = torch.arange(5.0).reshape(5, 1, 1, 1).expand(5, 3, 4, 4)
    blended, partners, share = mixed(images, 0.4, np.random.default_rng(3))
    assert 0 < share < 1
    assert sorted(partners.tolist()) == [0, 1, 2, 3, 4]
    torch.testing.assert_close(blended, share * images + (1 - share) * images[partners])
    again = mixed(images, 0.4, np.random.default_rng(3))
    assert torch.equal(blended, again[0])


def test_a_window_over_the_whole_image_stays_one_on_a_smaller_image() -> None:
    """Training may show smaller photos than the network was captured with."""
    quantizer = ActivationQuantizer("x", DType.U7)
    quantizer.set_range(127.0)
    pool = AvgPool2d(quantizer, Pair(7, 7), Pair(7, 7))
    images = torch.rand(2, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(pool(images), images.mean((2, 3), keepdim=True))
    assert pool(torch.zeros(1, 3, 7, 7)).shape == (1, 3, 1, 1)


def test_a_relu_is_left_to_the_quantizer_behind_it_in_training_only() -> None:
    prepared = network("lsq")
    prepared.set_mode("quantize")
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    relu = next(module for module in prepared.modules() if isinstance(module, ReLU))
    answers = {}
    for training in (True, False):
        prepared.train(training)
        assert relu.is_absorbed == training
        answers[training] = prepared(images).detach()
    assert torch.equal(answers[True], answers[False])
    prepared.train()
    quantizer = prepared.activation_quantizers()["relu1"]
    quantizer.observer = lambda values: None
    assert not relu.is_absorbed
