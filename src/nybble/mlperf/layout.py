"""The folders and files of an MLPerf submission, each written as a whole.

::

    OUT/open/SUBMITTER/systems/SYSTEM.json
                       documentation/calibration.md
                       measurements/SYSTEM/resnet50/SCENARIO/user.conf, README.md, SYSTEM_nybble_SCENARIO.json, run.json
                       results/SYSTEM/resnet50/SCENARIO/accuracy/
                                                        performance/run_1/
                       compliance/SYSTEM/resnet50/SCENARIO/TEST01/ ...

Everything is written into ``OUT/.partial-PROCESS`` and renamed from there, results last.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nybble.mlperf.errors import MlperfError
from nybble.mlperf.scenarios import BENCHMARK

DIVISION = "open"
PARTIAL = ".partial-"
#: A description of the run, which ``check`` and ``audit`` read; not part of a submission.
RUN = "run.json"
README = "README.md"
USER_CONF = "user.conf"
CALIBRATION = "calibration.md"


@dataclass(frozen=True)
class Layout:
    """Where the files of a system lie below ``out``."""

    out: Path
    submitter: str
    system: str

    @property
    def base(self) -> Path:
        """The submitter's folder."""
        return self.out / DIVISION / self.submitter

    @property
    def system_file(self) -> Path:
        """The description of the machine."""
        return self.base / "systems" / f"{self.system}.json"

    @property
    def calibration(self) -> Path:
        """How the network was quantized."""
        return self.base / "documentation" / CALIBRATION

    def measurements(self, scenario: str) -> Path:
        """How a scenario was run."""
        return self.base / "measurements" / self.system / BENCHMARK / scenario

    def implementation(self, scenario: str) -> Path:
        """The description of the network and the program."""
        return self.measurements(scenario) / f"{self.system}_nybble_{scenario}.json"

    def accuracy(self, scenario: str) -> Path:
        """The logs of the accuracy run."""
        return self.base / "results" / self.system / BENCHMARK / scenario / "accuracy"

    def performance(self, scenario: str) -> Path:
        """The logs of the performance run."""
        return self.base / "results" / self.system / BENCHMARK / scenario / "performance" / "run_1"

    def compliance(self, scenario: str, test: str) -> Path:
        """The logs of an audit test."""
        return self.base / "compliance" / self.system / BENCHMARK / scenario / test


def layouts(out: Path) -> list[Layout]:
    """The systems that a folder has results of. Raises :class:`MlperfError` where it has none."""
    if not out.is_dir():
        raise MlperfError(f"{out}: is not a folder")
    found = [
        Layout(out, path.parents[1].name, path.name)
        for path in sorted((out / DIVISION).glob("*/results/*"))
        if path.is_dir()
    ]
    if not found:
        raise MlperfError(
            f"{out}: has no results ({DIVISION}/SUBMITTER/results/SYSTEM); `nybble mlperf run --out {out}` makes them"
        )
    return found


def scenarios(layout: Layout) -> list[str]:
    """Scenarios that have results."""
    folder = layout.base / "results" / layout.system / BENCHMARK
    return sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


@contextmanager
def staging(out: Path) -> Iterator[Path]:
    """A folder for incomplete files, which is removed afterwards; folders of killed runs are removed as well.

    Raises
    ------
    MlperfError
        Where it cannot be made.
    """
    folder = out / f"{PARTIAL}{os.getpid()}"
    try:
        out.mkdir(parents=True, exist_ok=True)
        for old in out.glob(f"{PARTIAL}*"):
            if old == folder or not _is_alive(old.name[len(PARTIAL) :]):
                shutil.rmtree(old, ignore_errors=True)
        folder.mkdir()
    except OSError as error:
        raise MlperfError(f"{out}: cannot be written to: {error.strerror or error}") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def place(staged: Path, final: Path) -> None:
    """Move a complete file or folder to its place; an older one is removed before, so that they are never mixed.

    Raises
    ------
    MlperfError
        Where it cannot be moved there.
    """
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        if final.is_dir():
            aside = staged.with_name(f"{staged.name}.old")
            shutil.rmtree(aside, ignore_errors=True)
            final.rename(aside)
            shutil.rmtree(aside)
        staged.replace(final)
    except OSError as error:
        raise MlperfError(f"{error.filename or final}: cannot be written: {error.strerror or error}") from error


def write_json(path: Path, value: Any) -> None:
    """A staged JSON file, for people to read."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises :class:`MlperfError` naming the file."""
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise MlperfError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise MlperfError(f"{path}: is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise MlperfError(f"{path}: is not a JSON object")
    return value


def checked_name(name: str, what: str) -> str:
    """A name that can be a folder's. Raises :class:`MlperfError`."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise MlperfError(f"{what} {name[:60]!r}: only letters, digits, '.', '_' and '-', as it names a folder")
    return name


def _is_alive(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except (ValueError, OSError):
        return True
    return True
