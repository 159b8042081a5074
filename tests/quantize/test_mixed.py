"""Mixed bits: what is up for choice, that the knapsack is solved, and that budgets are kept."""

from __future__ import annotations

import itertools
import json
import random

import pytest
import torch
from test_reconstruct import Residual, images
from torch import Tensor

from nybble.graph import DType
from nybble.quantize.calibrate.calibration import calibrate
from nybble.quantize.config import Bits, QuantizeConfig
from nybble.quantize.errors import QuantizeError
from nybble.quantize.fake.network import QuantizedNetwork
from nybble.quantize.lower.convert import convert
from nybble.quantize.prepare.prepare import prepare
from nybble.quantize.ptq.mixed import choose_bits, engine_times, frontier, network_timer
from nybble.quantize.ptq.sensitivity import Group, GroupSensitivity, Sensitivities, groups, mixture, sensitivity, top1
from nybble.quantize.settings import MixedConfig

CONFIG = MixedConfig(runs=1, timed_images=1, threads=1)


def network(bits: Bits) -> QuantizedNetwork:
    torch.manual_seed(0)
    prepared = prepare(Residual().eval(), (3, 8, 8), QuantizeConfig(bits=bits))
    calibrate(prepared, images())
    return prepared


@pytest.fixture(scope="module")
def pair() -> tuple[QuantizedNetwork, QuantizedNetwork]:
    return network(Bits.W8A8), network(Bits.W4A4)


def labelled(pair: tuple[QuantizedNetwork, QuantizedNetwork]) -> list[tuple[Tensor, Tensor]]:
    """The float network is always right."""
    before = pair[0].mode
    pair[0].set_mode("float")
    with torch.inference_mode():
        found = [(part, pair[0](part).argmax(1)) for part in images()]
    pair[0].set_mode(before)
    return found


def synthetic(costs: list[tuple[float, float]]) -> list[GroupSensitivity]:
    """Groups of (price, seconds saved)."""
    return [
        GroupSensitivity(Group(f"g{place}", (f"g{place}",), None), price, 0, 1, None, 1 + saved, 1)
        for place, (price, saved) in enumerate(costs)
    ]


def test_the_frontier_is_that_of_all_subsets() -> None:
    chance = random.Random(0)
    costs = [(chance.random(), chance.random()) for _ in range(9)] + [(0.1, -1.0), (-0.01, 0.5)]
    entries = synthetic(costs)
    points = frontier(entries, 20.0, [entry.noise for entry in entries])
    subsets = []
    for chosen in itertools.product([False, True], repeat=len(costs)):
        names = [place for place, taken in enumerate(chosen) if taken]
        subsets.append((sum(max(0, costs[i][0]) for i in names), 20 - sum(costs[i][1] for i in names)))
    for limit in (20, 19.5, 18, 17, 16, 20 - sum(max(0, saved) for _, saved in costs) + 1e-9):
        best = min(price for price, seconds in subsets if seconds <= limit)
        assert next(point.price for point in points if point.seconds <= limit) == pytest.approx(best)
    assert all("g9" not in point.chosen for point in points)
    assert points[0].chosen == {"g10"}


def test_many_groups_do_not_explode() -> None:
    chance = random.Random(1)
    entries = synthetic([(chance.random(), chance.random()) for _ in range(60)])
    points = frontier(entries, 100.0, [entry.noise for entry in entries])
    assert len(points) <= 4097
    assert len(points[-1].chosen) == 60


def _ranges(prepared: QuantizedNetwork) -> dict[str, float]:
    return {name: quantizer.range for name, quantizer in prepared.activation_quantizers().items()}


def test_what_is_up_for_choice(pair: tuple[QuantizedNetwork, QuantizedNetwork]) -> None:
    eight, four = pair
    found = groups(eight, four)
    # The first layer and the last have 8 bits in both.
    assert [group.layers for group in found] == [("conv1",), ("conv2",), ("wide", "project")] or [
        group.layers for group in found
    ] == [("conv1",), ("conv2",), ("project", "wide")]
    mixed = mixture(eight, four, found[1:2])
    assert {name: entry.weight_bits for name, entry in mixed.config.layers.items()} == {
        "stem": 8,
        "conv1": 8,
        "conv2": 4,
        "wide": 8,
        "project": 8,
        "head": 8,
    }
    assert mixed.config.activations["conv1"].dtype is DType.U4
    assert mixed.config.activations["stem"].dtype is DType.U7
    graph, conversion = convert(mixed)
    assert next(node for node in graph.nodes if node.name == conversion.values["conv2"]).weight.dtype is DType.S4  # type: ignore[attr-defined]
    # The configuration makes such a network anew.
    torch.manual_seed(0)
    anew = prepare(Residual().eval(), (3, 8, 8), mixed.config)
    calibrate(anew, images())
    assert anew.config == mixed.config
    assert _ranges(anew) == pytest.approx(_ranges(mixed))
    with torch.inference_mode():
        for part in images():
            assert float((anew(part) - mixed(part)).square().sum() / mixed(part).square().sum()) < 0.02
            assert torch.equal(mixture(eight, four, found)(part), four(part))
            assert torch.equal(mixture(eight, four, [])(part), eight(part))
    with pytest.raises(QuantizeError, match="conv1: the 8-bit and the 4-bit network have different weights"):
        other = network(Bits.W4A4)
        with torch.no_grad():
            other.layers()["conv1"].weight.mul_(2)
        groups(eight, other)


def test_sensitivity_is_that_of_one_group(pair: tuple[QuantizedNetwork, QuantizedNetwork]) -> None:
    eight, four = pair
    data = labelled(pair)
    times, total = engine_times(eight, four, images(), CONFIG)
    found = sensitivity(eight, four, data, times, total)
    assert found.images == 48
    assert found.accuracy_float == 100
    assert 0 < found.noise_8 < found.noise_4
    assert total > sum(entry.seconds_8 for entry in found.groups) > 0
    for entry in found.groups:
        assert entry.noise > 0
        assert entry.seconds_8 > 0
        assert entry.seconds_4 > 0
        accuracy = top1(mixture(eight, four, [entry.group]), data)
        assert entry.lost == pytest.approx((found.accuracy_8 or 0) - accuracy)
        assert entry.agreement * 100 == pytest.approx(accuracy)
    assert len(found.table()) == 4
    json.dumps(found.to_dict(), allow_nan=False)
    with pytest.raises(QuantizeError, match="no time is given"):
        sensitivity(eight, four, data, {}, total)


def budget(pair: tuple[QuantizedNetwork, QuantizedNetwork]) -> Sensitivities:
    """Known prices and times, in place of measured ones: 1 + 2 + 3 seconds of 10 can be saved."""
    prices = [(0.3, 1.0), (0.1, 2.0), (0.5, 3.0)]
    entries = [
        GroupSensitivity(group, price, 0, 1, price * 10, 4, 4 - saved)
        for group, (price, saved) in zip(groups(*pair), prices, strict=True)
    ]
    return Sensitivities(groups=entries, seconds_8=10.0)


@pytest.mark.parametrize(
    ("speed", "chosen"), [(1.0, ()), (1.1, (1,)), (10 / 8, (1,)), (10 / 7, (0, 1)), (1.5, (1, 2)), (2.5, (0, 1, 2))]
)
def test_a_speed_is_reached_at_the_least_price(
    pair: tuple[QuantizedNetwork, QuantizedNetwork], speed: float, chosen: tuple[int, ...]
) -> None:
    found = choose_bits(*pair, budget(pair), speed=speed)
    names = [group.name for group in groups(*pair)]
    assert found.four_bits == tuple(names[place] for place in chosen)
    assert found.speed >= speed - 1e-9
    assert found.network.mode == "quantize"


def test_an_accuracy_is_verified(pair: tuple[QuantizedNetwork, QuantizedNetwork]) -> None:
    def accuracy(candidate: QuantizedNetwork) -> float:
        narrow = sum(entry.weight_bits == 4 for entry in candidate.config.layers.values())
        return 90.0 - narrow

    # The last group has two layers, the others one each.
    names = [group.name for group in groups(*pair)]
    for wanted, chosen in ((86, (0, 1, 2)), (87, (1, 2)), (88, (0, 1)), (89, (1,)), (90, ())):
        found = choose_bits(*pair, budget(pair), min_accuracy=wanted, evaluate=accuracy)
        assert found.four_bits == tuple(names[place] for place in chosen)
        assert found.accuracy is not None
        assert found.accuracy >= wanted
    with pytest.raises(QuantizeError, match=r"cannot be reached: all layers in 8 bits give 90\.00 %"):
        choose_bits(*pair, budget(pair), min_accuracy=91, evaluate=accuracy)


def test_a_speed_that_is_missed_is_tried_anew(pair: tuple[QuantizedNetwork, QuantizedNetwork]) -> None:
    def timer(candidate: QuantizedNetwork) -> float:
        narrow = sum(entry.weight_bits == 4 for entry in candidate.config.layers.values())
        return 10.0 - 0.9 * narrow

    found = choose_bits(*pair, budget(pair), speed=1.2, timer=timer)
    assert found.speed >= 1.2
    assert len(found.four_bits) > 1
    with pytest.raises(QuantizeError, match="cannot be reached"):
        choose_bits(*pair, budget(pair), speed=2.0, timer=timer)
    with pytest.raises(QuantizeError, match="cannot be reached"):
        choose_bits(*pair, budget(pair), speed=3.0)


def test_budgets_and_labels_are_asked_for(pair: tuple[QuantizedNetwork, QuantizedNetwork]) -> None:
    for both in ({}, {"speed": 1.0, "min_accuracy": 1.0}):
        with pytest.raises(QuantizeError, match="give one of"):
            choose_bits(*pair, budget(pair), **both)
    with pytest.raises(QuantizeError, match="needs labelled images"):
        choose_bits(*pair, budget(pair), min_accuracy=1)
    with pytest.raises(QuantizeError, match="needs labelled images"):
        top1(pair[0], images())
    by_accuracy = CONFIG.model_copy(update={"criterion": "accuracy"})
    found = choose_bits(*pair, budget(pair), speed=0.01, config=by_accuracy, timer=network_timer(images(), CONFIG))
    assert found.measured_seconds is not None
    assert found.measured_seconds > 0
