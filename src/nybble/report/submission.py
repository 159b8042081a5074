"""What ``nybble mlperf run`` wrote: the scenarios of each system, from LoadGen's logs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from nybble.mlperf.layout import DIVISION, RUN, Layout, read_json, scenarios
from nybble.mlperf.result import DETAIL, Result, read_result
from nybble.mlperf.scenarios import SCENARIOS
from nybble.report.errors import ReportError
from nybble.report.records import Disturbance, Record, wrong_field
from nybble.statistics import Share


class Request(Record):
    """What was asked for."""

    name: str
    images: str


class RunSettings(Record):
    """How a run was made."""

    isa: str
    threads: int
    batch: int


class RunRecord(Record):
    """``run.json`` of the measurements."""

    nybble: str
    photos: int
    request: Request
    shortfalls: list[str] = Field(default_factory=list)
    runs: dict[str, RunSettings]
    disturbance: Disturbance | None = None


@dataclass(frozen=True)
class Scenario:
    """A scenario of a system: the performance run, the accuracy run, how they were made, and the machine."""

    system: str
    name: str
    performance: Result | None
    accuracy: Share | None
    run: RunRecord | None
    description: dict[str, Any]


def find_layouts(folder: Path) -> list[Layout]:
    """The systems of every submission tree in a folder, wherever it begins."""
    found: dict[tuple[Path, str, str], Layout] = {}
    for log in sorted(folder.rglob(DETAIL)):
        for results in log.parents:
            # OUT/open/SUBMITTER/results/SYSTEM/...; copies that are not whole yet lie in hidden folders.
            hidden = any(part.startswith(".") for part in log.relative_to(folder).parts)
            if results.name != "results" or results.parent.parent.name != DIVISION or hidden:
                continue
            out = results.parents[2]
            layout = Layout(out, results.parent.name, log.relative_to(results).parts[0])
            found.setdefault((out, layout.submitter, layout.system), layout)
    return list(found.values())


def read_scenarios(layout: Layout) -> list[Scenario]:
    """Everything that a system has results of, in LoadGen's order of scenarios.

    Raises
    ------
    MlperfError, ReportError
        Naming the file.
    """
    description = read_json(layout.system_file) if layout.system_file.is_file() else {}
    order = {name: place for place, name in enumerate(SCENARIOS)}
    found = []
    for name in sorted(scenarios(layout), key=lambda name: order.get(name, len(order))):
        performance, accuracy = layout.performance(name), layout.accuracy(name) / "accuracy.txt"
        run = layout.measurements(name) / RUN
        found.append(
            Scenario(
                layout.system,
                name,
                read_result(performance) if (performance / DETAIL).is_file() else None,
                _read_accuracy(accuracy) if accuracy.is_file() else None,
                _read_run(run) if run.is_file() else None,
                description,
            )
        )
    return found


def _read_accuracy(path: Path) -> Share:
    counts = re.search(r"good=(\d+), total=(\d+)", path.read_text(encoding="utf-8-sig", errors="replace"))
    if counts is None or not int(counts[1]) <= int(counts[2]) or not int(counts[2]):
        raise ReportError(f"{path}: has no `good=` and `total=`; run `nybble mlperf run --mode accuracy` again")
    return Share(int(counts[1]), int(counts[2]))


def _read_run(path: Path) -> RunRecord:
    try:
        return RunRecord.model_validate(read_json(path))
    except ValidationError as error:
        raise ReportError(f"{path}: {wrong_field(error)}") from error
