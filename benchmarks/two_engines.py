"""Two engines of one process at full load, beside the same two called alternately.

`two_engines.py MODEL OTHER --image FILE [--seconds S] [--rounds N] [--batch N]`. In each round the engines run alone,
alternately from one thread, and together from two threads. Work is counted in seconds of an engine alone, so that
engines of different speed add up. The ratio of the work per second, together to alternately, is printed: the median
over the rounds, and its extremes. Measure on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
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


def alternately(calls: Sequence[Callable[[], object]], costs: Sequence[float], seconds: float) -> float:
    """Work per second of one thread that calls both in turn."""
    work, begun = 0.0, time.perf_counter()
    while time.perf_counter() < begun + seconds:
        for call, cost in zip(calls, costs, strict=True):
            call()
            work += cost
    return work / (time.perf_counter() - begun)


def together(calls: Sequence[Callable[[], object]], costs: Sequence[float], seconds: float) -> float:
    """Work per second of a thread for each; calls that are under way at the end count by what has passed of them."""
    work = [0.0] * len(calls)
    begun = time.perf_counter()
    until = begun + seconds

    def run(index: int) -> None:
        while (started := time.perf_counter()) < until:
            calls[index]()
            ended = time.perf_counter()
            work[index] += costs[index] * min(1.0, (until - started) / (ended - started))

    workers = [threading.Thread(target=run, args=(index,)) for index in range(len(calls))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(work) / seconds


def main(words: Sequence[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Two engines of one process at full load.")
    parser.add_argument("models", nargs=2, metavar="MODEL")
    parser.add_argument("--image", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each way, in each round")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--batch", type=int, default=8)
    given = parser.parse_args(words)
    watch = Watch()
    engines = [load(model, threads=THREADS) for model in given.models]
    calls = [calls_of(engine, given.image, given.batch) for engine in engines]
    ratios = []
    for _ in range(given.rounds):
        costs = [alone(call, given.seconds / 3) for call in calls]
        beside = alternately(calls, costs, given.seconds)
        ratios.append(together(calls, costs, given.seconds) / beside)
    found = {"ratio": statistics.median(ratios), "least": min(ratios), "most": max(ratios), "rounds": ratios}
    sys.stdout.write(json.dumps({"warning": warning(watch.taken()), **found}, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
