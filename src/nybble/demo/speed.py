"""Speeds of several networks, interleaved, so that other work on the machine affects all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from nybble.graph.types import Array
from nybble.turns import rounds_of, seconds_of, take_turns

#: Rounds whose median is the speed, at least.
ROUNDS = 5


@dataclass(frozen=True)
class Contestant:
    """A network that is measured: ``run`` takes uint8 ``photos`` (N, ...), ``bits`` says its form."""

    network: str
    bits: str
    run: Callable[[Array], object]
    photos: Array


@dataclass(frozen=True)
class Speed:
    """Images per second at one batch size: the median of ``rounds``."""

    network: str
    bits: str
    batch: int
    images_per_second: float
    rounds: int


def measure_in_turns(
    contestants: Sequence[Contestant], batch: int, seconds: float, clock: Callable[[], float] = time.perf_counter
) -> list[Speed]:
    """The speed of each contestant, from decoded photos to logits.

    Each runs once without being counted, then all run one batch, interleaved, as often as fits into ``seconds``, but
    at least five times. Round ``r`` of a batch of ``b`` takes photos ``r``, ``r + 1`` to ``r + b - 1``, modulo
    the number of photos: with sparse activations the speed differs from photo to photo.

    Parameters
    ----------
    contestants : sequence of Contestant
    batch : int
    seconds : float
        For all of them together.
    clock : callable
        Seconds from some moment.

    Returns
    -------
    list of Speed
        In the order of the contestants.
    """

    def turn(contestant: Contestant, first: int) -> float:
        return seconds_of(contestant.run, _batch(contestant.photos, first, batch), clock=clock)

    for contestant in contestants:
        turn(contestant, 0)
    durations = take_turns([partial(turn, one) for one in contestants], rounds_of(seconds, ROUNDS, clock=clock))
    return [
        Speed(one.network, one.bits, batch, batch / statistics.median(taken), len(taken))
        for one, taken in zip(contestants, durations, strict=True)
    ]


def _batch(photos: Array, first: int, count: int) -> Array:
    return photos[[position % len(photos) for position in range(first, first + count)]]
