"""The speed-up of all threads over one: of the engine, and of a loop whose data lies in its core's caches.

The machine limits how well two threads run side by side: its clock, its shared cores and its other guests. So the
engine's scaling is compared with that of a loop of the same instructions whose data lies in L1, in the same rounds.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from nybble import _native
from nybble.bench.isas import family
from nybble.bench.race import Runner, Spread
from nybble.progress import Progress, counted, silent
from nybble.turns import take_turns

#: The loop whose instructions are those of the four-bit kernels, and seconds of one window of it.
LOOP = "vpmaddubsw+vpaddw, L1"
WINDOW = 0.05
#: Pause after each turn, in seconds: longer than our threads look for new work before they sleep.
SETTLE = 0.005


@dataclass
class Speeds:
    """Work per second on one thread and on all of them, one number per round."""

    one: list[float] = field(default_factory=list)
    all: list[float] = field(default_factory=list)

    @property
    def scaling(self) -> list[float]:
        """How many times as fast all threads were, round by round."""
        return [many / one for one, many in zip(self.one, self.all, strict=True)]


def loop_isa(isa: str) -> str | None:
    """The instruction set whose loop is compared with one of the engine; ``None`` where this machine has none.

    The loops of VNNI alone have no instruction that four bits use: then it is that of what VNNI adds to.
    """
    return next((each for each in family(isa) if (LOOP, each, False) in _native.ceilings()), None)


def measure_scaling(
    one: Runner,
    all_of_them: Runner,
    threads: int,
    isa: str,
    batches: Sequence[int],
    rounds: Iterable[Sequence[int]],
    progress: Progress = silent,
) -> dict[str, Any]:
    """Take turns on one thread and on all, engine and loop.

    Parameters
    ----------
    one, all_of_them : Runner
        The engine on one thread and on ``threads``.
    threads : int
    isa : str
        Of the loop; see :func:`loop_isa`.
    batches : sequence of int
    rounds : iterable of sequence of int
        The photos of each round; at least one round.
    progress : Progress

    Returns
    -------
    dict
        ``scaling`` of the result; see :func:`scaling_record`.
    """

    def loop_speed(count: int, _: Sequence[int]) -> float:
        return _native.measure_ceiling(LOOP, isa, count, WINDOW)

    runners = [partial(_speed, runner, batch) for batch in batches for runner in (one, all_of_them)]
    loops = [partial(loop_speed, count) for count in (1, threads)]
    measured = take_turns([*runners, *loops], counted(rounds, "scaling over threads", None, progress))
    *engine, loop = (Speeds(*pair) for pair in zip(measured[::2], measured[1::2], strict=True))
    return scaling_record(dict(zip(batches, engine, strict=True)), loop, threads, isa)


def scaling_record(engine: dict[int, Speeds], loop: Speeds, threads: int, isa: str) -> dict[str, Any]:
    """The ``scaling`` of the result.

    Parameters
    ----------
    engine : dict
        Speeds by batch size.
    loop : Speeds
    threads : int
    isa : str
        Of the loop.

    Returns
    -------
    dict
        ``batch_1`` and ``best_batch``: the engine's scaling by the loop's, medians of the rounds; ``None`` where batch
        1 was not measured. Each ``_spread`` has quartiles and extremes of it, the engine's and the loop's own scaling
        (medians), and the batch size. The best batch is the fastest on all threads, on one thread the fastest there.
    """
    record: dict[str, Any] = {
        "threads": threads,
        "loop": {"name": LOOP, "isa": isa},
        "rounds": len(loop.one),
        "batch_1": None,
        "best_batch": None,
    }
    on_all = max(engine, key=lambda batch: Spread.of(engine[batch].all).median)
    on_one = max(engine, key=lambda batch: Spread.of(engine[batch].one).median)
    sides = {"best_batch": (Speeds(engine[on_one].one, engine[on_all].all), on_all)}
    if 1 in engine:
        sides["batch_1"] = (engine[1], 1)
    for kind, (speeds, batch) in sides.items():
        shares = Spread.of(ours / loops for ours, loops in zip(speeds.scaling, loop.scaling, strict=True))
        record[kind] = shares.median
        record[f"{kind}_spread"] = {
            "quartiles": shares.quartiles,
            "extremes": shares.extremes,
            "engine": Spread.of(speeds.scaling).median,
            "loop": Spread.of(loop.scaling).median,
            "batch": batch,
        }
    return record


def _speed(runner: Runner, batch: int, photos: Sequence[int]) -> float:
    seconds = runner.run(photos, batch)["seconds"]
    time.sleep(SETTLE)
    return len(photos) / float(seconds)
