"""Who runs when, and how often, where contestants are measured in turns."""

from __future__ import annotations

import itertools
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nybble.turns import rounds_of, seconds_of, take_turns


@given(count=st.integers(0, 5), rounds=st.integers(0, 7), rotate=st.booleans())
def test_each_round_runs_everybody_once(count: int, rounds: int, rotate: bool) -> None:
    ran: list[tuple[int, int]] = []

    def run(who: int, number: int) -> int:
        ran.append((number, who))
        return 100 * who + number

    measured = take_turns([partial(run, who) for who in range(count)], range(rounds), rotate=rotate)
    assert measured == [[100 * who + number for number in range(rounds)] for who in range(count)]
    first = range(rounds) if rotate else [0] * rounds
    assert ran == [(number, (first[number] + place) % count) for number in range(rounds) for place in range(count)]


@pytest.mark.parametrize(
    "seconds, fewest, most, expected",
    [(0.0, 0, None, 0), (0.0, 3, None, 3), (2.5, 1, None, 3), (10.0, 1, 4, 4), (-1.0, 2, None, 2)],
)
def test_rounds_end_by_time_within_their_bounds(seconds: float, fewest: int, most: int | None, expected: int) -> None:
    now = [5.0]
    found = []
    for number in rounds_of(seconds, fewest, most, clock=lambda: now[0]):
        found.append(number)
        now[0] += 1
    assert found == list(range(expected))


def test_a_call_is_timed_with_its_arguments() -> None:
    given: list[object] = []
    clock = itertools.count(7.0, 2.5).__next__
    assert seconds_of(lambda *arguments: given.extend(arguments), "a", 1, clock=clock) == 2.5
    assert given == ["a", 1]
