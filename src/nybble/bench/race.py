"""Runs contestants interleaved on the same photos: persistent processes, of which one works at a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple, Protocol, cast

import numpy as np

from nybble.bench.errors import BenchError
from nybble.bench.isas import features
from nybble.bench.restrict import Restriction
from nybble.graph import Preprocessing
from nybble.turns import take_turns

#: Pause after each turn, in seconds, until the threads of the one before have stopped spinning for new work:
#: those of ONNX Runtime used 40 ms of processor time after a turn.
SETTLE = 0.1
WORKER = Path(__file__).with_name("worker.py")


@dataclass(frozen=True)
class Contestant:
    """A contestant: an engine, a model for it, and its settings.

    Attributes
    ----------
    name : str
        Unique among the contestants.
    engine : str
        A file of ``engines``.
    bits : int
        4, 8, or 32 for float.
    model : Path
    mode : str
        ``latency``: all threads work on one call. ``throughput``: several calls are under way.
    activations : str
        ``real``, or ``dense`` for the network without zeros.
    isa : str or None
        The instruction set nybble is asked for.
    restriction : Restriction or None
        The restriction of a peer to an instruction set.
    device : str
        What nybble runs on.
    """

    name: str
    engine: str
    bits: int
    model: Path
    mode: str = "latency"
    activations: str = "real"
    isa: str | None = None
    restriction: Restriction | None = None
    device: str = "cpu"


class Entry(NamedTuple):
    """One line of the result: a contestant at a batch size."""

    name: str
    batch: int


@dataclass
class Runs:
    """The measurements of a contestant at one batch size: images per second of each round, seconds of each call."""

    images_per_second: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    peak_rss_bytes: int | None = None

    @property
    def median(self) -> float:
        """Images per second of the middle round."""
        return float(np.median(self.images_per_second))


@dataclass(frozen=True)
class Spread:
    """Median, quartiles and extremes."""

    median: float
    quartiles: tuple[float, float]
    extremes: tuple[float, float]

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Of at least one value."""
        low, first, median, third, high = np.percentile(list(values), [0, 25, 50, 75, 100]).tolist()
        return cls(median, (first, third), (low, high))


class Runner(Protocol):
    """Something that runs in turns."""

    @property
    def name(self) -> str:
        """The contestant's."""

    def run(self, photos: Sequence[int], batch: int) -> dict[str, Any]:
        """Run the photos in batches and answer as ``worker.py`` does."""


class Worker:
    """The process of a contestant; a context manager that ends it.

    Attributes
    ----------
    name : str
    about : dict
        What the process reports about itself: version, instruction set, seconds to load.
    """

    def __init__(
        self, contestant: Contestant, photos: Path, shape: Sequence[int], preprocessing: Preprocessing, threads: int
    ) -> None:
        self.name = contestant.name
        restriction = contestant.restriction
        mask = restriction.cpu_mask if restriction else None
        setup = {
            "engine": contestant.engine,
            "model": str(contestant.model),
            "mode": contestant.mode,
            "device": contestant.device,
            "isa": restriction.isa if restriction else contestant.isa,
            "features": " ".join(sorted(features(restriction.isa))) if restriction else "",
            "cpu_mask": str(mask) if mask else None,
            "photos": str(photos),
            "shape": list(shape),
            "mean": preprocessing.mean,
            "std": preprocessing.std,
            "threads": threads,
        }
        # Its standard error is shown only if it ends with an error.
        self._complaints = tempfile.TemporaryFile(mode="w+", errors="replace")  # noqa: SIM115
        # A session of its own: Ctrl-C comes to this process, which ends the worker.
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, str(WORKER), json.dumps(setup)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            text=True,
            start_new_session=True,
            env={**os.environ, **(restriction.environment if restriction else {})},
        )
        # Both are pipes, which the type of Popen does not tell.
        self._requests = cast(IO[str], self._process.stdin)
        self._answers = cast(IO[str], self._process.stdout)
        try:
            self.about = self._read()
        except BaseException:
            self.close(patience=0)
            raise

    def run(self, photos: Sequence[int], batch: int) -> dict[str, Any]:
        """Run the photos in batches; see ``worker.py`` for the answer. Raises :class:`BenchError` if it died."""
        try:
            self._requests.write(json.dumps({"photos": list(photos), "batch": batch}) + "\n")
            self._requests.flush()
        except BrokenPipeError:
            raise self._dead() from None
        return self._read()

    def close(self, patience: float = 5.0) -> None:
        """End the process; it has ``patience`` seconds to end by itself."""
        try:
            self._requests.close()
            self._process.wait(timeout=patience)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            pass
        finally:
            self._process.kill()
            self._process.wait()
            self._answers.close()
            self._complaints.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(patience=5.0 if error is None else 0.0)

    def _read(self) -> dict[str, Any]:
        line = self._answers.readline()
        if not line:
            raise self._dead()
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _dead(self) -> BenchError:
        self._process.wait()
        self._complaints.seek(0)
        lines = [line.strip() for line in self._complaints.read().splitlines() if line.strip()]
        last = lines[-1] if lines else "it said nothing"
        return BenchError(f"{self.name} stopped with exit code {self._process.returncode}: {last}")


def run_rounds(
    runners: Sequence[Runner], rounds: Iterable[Sequence[int]], batches: Sequence[int], runs: dict[Entry, Runs]
) -> int:
    """Rounds in which each contestant runs once at each batch size, all on the same photos.

    ``rounds`` are the photos of each; ``runs`` grows. Returns how many rounds there were.
    """

    def turn(runner: Runner, batch: int, photos: Sequence[int]) -> None:
        answer = runner.run(photos, batch)
        entry = runs.setdefault(Entry(runner.name, batch), Runs())
        entry.images_per_second.append(len(photos) / answer["seconds"])
        entry.latencies.extend(answer["latencies"])
        time.sleep(SETTLE)

    turns = take_turns([partial(turn, runner, batch) for runner in runners for batch in batches], rounds)
    return len(turns[0])


def paired(runs: dict[Entry, Runs], one: Entry, other: Entry) -> Spread:
    """The speed of ``one`` divided by that of ``other`` in each round, in which both ran the same photos."""
    pairs = zip(runs[one].images_per_second, runs[other].images_per_second, strict=True)
    return Spread.of(first / second for first, second in pairs)
