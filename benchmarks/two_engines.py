"""Two engines of one process at full load, beside the same two called alternately.

`two_engines.py MODEL OTHER --image FILE [--seconds S] [--rounds N] [--batch N]`. In each round the engines run alone,
alternately from one thread, and together from two threads. Work is counted in seconds of an engine alone, so that
engines of different speed add up. The ratio of the work per second, together to alternately, is printed: the median
over the rounds, and its extremes. Measure on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import operator
import statistics
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from nybble import Engine, load
from nybble.disturbance import Watch, warning

THREADS = 2


def calls_of(engine: Engine, photo: Path, batch: int) -> Callable[[], object]:
    """A call of the engine for a batch of the photo."""
    photos = np.repeat(engine.prepare(photo)[None], batch, axis=0)
    return lambda: engine(photos)


def alone(call: Callable[[], object], seconds: float) -> float:
    """Seconds of a call."""
    count, begun = 0, time.perf_counter()
    while time.perf_counter() < begun + seconds:
        call()
        count += 1
    return (time.perf_counter() - begun) / count


def alternately(calls: Sequence[Callable[[], object]], seconds: float) -> list[float]:
    """Calls per second of each, of one thread that calls both in turn."""
    count, begun = 0, time.perf_counter()
    while time.perf_counter() < begun + seconds:
        for call in calls:
            call()
        count += 1
    return [count / (time.perf_counter() - begun)] * len(calls)


def together(calls: Sequence[Callable[[], object]], seconds: float) -> list[float]:
    """Calls per second of each, from threads of their own; the last ones count by what has passed of them."""
    counts = [0.0] * len(calls)
    begun = time.perf_counter()
    until = begun + seconds

    def run(index: int) -> None:
        while (started := time.perf_counter()) < until:
            calls[index]()
            counts[index] += min(1.0, (until - started) / (time.perf_counter() - started))

    workers = [threading.Thread(target=run, args=(index,)) for index in range(len(calls))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return [count / seconds for count in counts]


def main(words: Sequence[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Two engines of one process at full load.")
    parser.add_argument("models", nargs=2, metavar="MODEL")
    parser.add_argument("--image", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each way, in each round")
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--batch", type=int, default=8)
    given = parser.parse_args(words)
    watch = Watch()
    engines = [load(model, threads=THREADS) for model in given.models]
    calls = [calls_of(engine, given.image, given.batch) for engine in engines]
    costs, apart, joined = [], [], []
    for _ in range(given.rounds):
        costs.append([alone(call, given.seconds / 3) for call in calls])
        apart.append(alternately(calls, given.seconds))
        joined.append(together(calls, given.seconds))
    cost = [statistics.median(column) for column in zip(*costs, strict=True)]
    ratios = [
        sum(map(operator.mul, after, cost)) / sum(map(operator.mul, before, cost))
        for before, after in zip(apart, joined, strict=True)
    ]
    found = {"ratio": statistics.median(ratios), "least": min(ratios), "most": max(ratios), "rounds": ratios}
    sys.stdout.write(json.dumps({"warning": warning(watch.taken()), **found}, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
