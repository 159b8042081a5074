"""Interleaved measurement, so that other work on the machine affects all contestants alike."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

R = TypeVar("R")
T = TypeVar("T")


def take_turns(contestants: Sequence[Callable[[R], T]], rounds: Iterable[R], *, rotate: bool = False) -> list[list[T]]:
    """The measurements of each contestant in each round. In a round each of them runs once, one after the other.

    Parameters
    ----------
    contestants : sequence of callable
        Each takes the round and returns what it measured: a time by :func:`seconds_of`, a speed, or times of its own.
    rounds : iterable
        The argument of the contestants in each round: its number, as :func:`rounds_of` gives it, or its photos.
    rotate : bool
        Begin each round with the next contestant, so that none always runs right after the same other one.

    Returns
    -------
    list of list
        One list per contestant, one entry per round.
    """
    measured: list[list[T]] = [[] for _ in contestants]
    count = len(contestants)
    for number, taken in enumerate(rounds):
        for place in range(count):
            turn = (number + place) % count if rotate else place
            measured[turn].append(contestants[turn](taken))
    return measured


def rounds_of(
    seconds: float, fewest: int, most: int | None = None, clock: Callable[[], float] = time.perf_counter
) -> Iterator[int]:
    """Numbers of rounds, from 0, until ``seconds`` after the first began; at least ``fewest`` and at most ``most``."""
    end = clock() + seconds
    for number in itertools.count():
        if number == most or (number >= fewest and clock() >= end):
            return
        yield number


def seconds_of(run: Callable[..., object], *arguments: object, clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds that a call takes."""
    begun = clock()
    run(*arguments)
    return clock() - begun
