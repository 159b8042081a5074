"""Tuning: what it returns is legal and changes nothing; how fast it is depends on the machine and is not asserted."""

from __future__ import annotations

import numpy as np
import pytest
from agreement import assert_engine_agrees

import nybble
from nybble.backends.cpu.activity import Activity, orders_from_activity
from nybble.backends.cpu.choices import Choices, candidates, check, convolutions
from nybble.backends.cpu.order import channel_orders
from nybble.backends.cpu.planner import make_plan
from nybble.backends.cpu.tune import ROUNDS, _against, _Search, tune
from nybble.engine import Engine
from nybble.engine.profile import zero_pair_share
from nybble.lower import fuse
from nybble.reference import interpret
from nybble.synthetic import bottleneck_resnet, clouds

GRAPH = bottleneck_resnet(blocks=(1, 1), width=8, classes=10, image=16, seed=2)
IMAGES = clouds(np.random.RandomState(0), 6, 16)


@pytest.mark.parametrize("isa", nybble.available_isas())
def test_choices_are_legal_and_change_no_result(isa: str) -> None:
    told: list[tuple[str, int, int | None]] = []
    found = tune(GRAPH, IMAGES, threads=1, isa=isa, seconds=0.1, progress=lambda *what: told.append(what))
    check(GRAPH, isa, found.choices)
    assert found.chosen in ("defaults", *found.speedups)
    assert found.milliseconds.keys() == {"defaults", *found.speedups}
    assert [done for _, done, _ in told] == list(range(len(ROUNDS) + 3))
    assert {total for _, _, total in told} == {len(ROUNDS) + 2}
    assert found.runs >= 5
    with Engine(GRAPH, threads=1, isa=isa, choices=found.choices) as engine:
        assert_engine_agrees(engine, IMAGES, interpret(GRAPH, IMAGES, keep=None))


@pytest.mark.parametrize("isa", nybble.available_isas())
def test_every_kernel_it_tries_is_a_candidate(isa: str) -> None:
    """Candidates are what the tests of choices force one by one. The defaults are tested elsewhere."""
    search = _Search(GRAPH, IMAGES, 1, isa, make_plan(GRAPH, isa).kernels)
    for name, step in convolutions(GRAPH).items():
        known = {*candidates(step, isa), search.defaults[name]}
        sizes = {kernel.block_outputs for kernel in known}
        methods = {kernel.method for kernel in known}
        seen = [search.defaults[name]]
        for part in ROUNDS:
            for kernel in seen[-3:]:
                search.kernels[name] = kernel
                options = search._options(name, step, part)
                assert options[0] == kernel
                assert len(set(options)) == len(options)
                for option in options:
                    check(GRAPH, isa, Choices({name: option}))
                    assert option.method in methods
                    assert option.block_outputs in sizes
                seen += options[1:]


def test_orders_matched_on_activity_leave_fewer_pairs() -> None:
    steps = fuse(GRAPH)
    with Engine(GRAPH, threads=1) as engine:
        values = engine.tap(IMAGES)
    activity = Activity(steps)
    activity.count(values)
    matched = activity.orders()
    check(GRAPH, engine.isa, Choices({}, matched))
    assert activity.pair_share(matched) < activity.pair_share(channel_orders(steps))
    # What it foretells is what is counted, where a class is one value that a convolution reads.
    for index, names in enumerate(activity.classes):
        if len(names) == 1:
            order = matched[names[0]]
            expected = 1 - zero_pair_share(values[names[0]], order)
            assert activity.class_share(index, order) == pytest.approx(expected, rel=1e-5)


def test_orders_are_kept_where_new_ones_are_no_better() -> None:
    steps = fuse(GRAPH)
    with Engine(GRAPH, threads=1) as engine:
        activity = Activity(steps)
        activity.count(engine.tap(IMAGES))
    assert orders_from_activity(activity, activity, activity.orders()) == {}
    better = orders_from_activity(activity, activity, {})
    assert better
    assert activity.pair_share(better) < activity.pair_share({})


def test_what_is_stored_stays_unless_the_new_is_faster_in_most_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = Choices()
    kept = tune(GRAPH, IMAGES, threads=1, seconds=0.1, stored=stored)
    assert kept.against_stored is not None
    assert (kept.chosen == "stored") == (kept.against_stored.low <= 1)
    assert "stored" in kept.speedups and "stored" in kept.milliseconds
    if kept.chosen == "stored":
        assert kept.choices is stored
    # By paired runs: the median is not enough.
    before = [1.0, 1.0, 1.0, 1.0, 1.0]
    assert _against(before, [0.9, 0.9, 0.9, 1.1, 1.1]).low < 1 < _against(before, [0.9, 0.9, 0.9, 1.1, 1.1]).median
    assert _against(before, [0.9, 0.9, 0.9, 0.95, 1.1]).low > 1


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="at least one input"):
        tune(GRAPH, IMAGES[:0])
    with pytest.raises(ValueError, match="seconds"):
        tune(GRAPH, IMAGES, seconds=0)


def test_one_input_leaves_the_orders() -> None:
    found = tune(GRAPH, IMAGES[:1], threads=1, seconds=0.1)
    assert found.pair_shares is None
    assert not found.choices.orders
