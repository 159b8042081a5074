"""Contestants take turns on the same photos: persistent processes, of which one works at a time."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, cast

import numpy as np

from nybble.graph import Preprocessing

#: Pause after each turn, in seconds, until the threads of the one before have stopped spinning for new work:
#: those of ONNX Runtime used 40 ms of processor time after a turn.
SETTLE = 0.1


class ContestantError(Exception):
    """A contestant could not be started, or died; the text ends with what it printed."""


@dataclass
class Runs:
    """What one contestant did at one batch size: images per second of each round, prediction of each photo."""

    images_per_second: list[float] = field(default_factory=list)
    predictions: dict[int, int] = field(default_factory=dict)

    def top1(self, labels: Sequence[int] | None) -> float | None:
        """Part of the photos seen that are named rightly; ``None`` without labels."""
        if labels is None or not self.predictions:
            return None
        return float(np.mean([labels[photo] == named for photo, named in self.predictions.items()]))


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


class Contestant:
    """A process that answers requests; a context manager that ends it.

    Attributes
    ----------
    name : str
    about : dict
        What the process tells of itself: version, instruction set, seconds to load.
    """

    def __init__(
        self, name: str, engine: str, model: Path, photos: Path, preprocessing: Preprocessing, threads: int
    ) -> None:
        self.name = name
        known = json.dumps({"mean": preprocessing.mean, "std": preprocessing.std})
        script = Path(__file__).with_name("contestant.py")
        command = [sys.executable, str(script), "--engine", engine, "--model", str(model), "--photos", str(photos)]
        command += ["--preprocessing", known, "--threads", str(threads)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        # Both are pipes, which the type of Popen does not tell.
        self._requests = cast(IO[str], self._process.stdin)
        self._answers = cast(IO[str], self._process.stdout)
        try:
            self.about = self._read()
        except BaseException:
            self.close()
            raise

    def run(self, photos: Sequence[int], batch: int) -> dict[str, Any]:
        """Run the photos in batches; see ``contestant.py`` for the answer."""
        try:
            self._requests.write(json.dumps({"photos": list(photos), "batch": batch}) + "\n")
            self._requests.flush()
        except BrokenPipeError:
            raise ContestantError(f"{self.name} has stopped; its message stands above") from None
        return self._read()

    def close(self) -> None:
        """End the process."""
        try:
            self._requests.close()
            self._process.wait(timeout=10)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        self._answers.close()

    def __enter__(self) -> Contestant:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self) -> dict[str, Any]:
        line = self._answers.readline()
        if not line:
            raise ContestantError(f"{self.name} has stopped; its message stands above")
        answer: dict[str, Any] = json.loads(line)
        return answer


def take_turns(
    contestants: Sequence[Contestant], photos: Sequence[Sequence[int]], batch: int, runs: dict[tuple[str, int], Runs]
) -> Iterable[int]:
    """One round after another, each contestant once a round on the round's photos; yields the rounds done.

    ``runs`` is filled by (name, batch).
    """
    for done, chosen in enumerate(photos, start=1):
        for contestant in contestants:
            answer = contestant.run(chosen, batch)
            entry = runs.setdefault((contestant.name, batch), Runs())
            entry.images_per_second.append(len(chosen) / sum(answer["seconds"]))
            entry.predictions.update(zip(chosen, answer["predictions"], strict=True))
            time.sleep(SETTLE)
        yield done


def ratios(runs: dict[tuple[str, int], Runs], one: str, other: str, batch: int) -> Spread:
    """How many times as fast ``one`` is as ``other``, of each round in which both ran the same photos."""
    pairs = zip(runs[one, batch].images_per_second, runs[other, batch].images_per_second, strict=True)
    return Spread.of(first / second for first, second in pairs)
