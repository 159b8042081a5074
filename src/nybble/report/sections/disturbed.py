"""Measurements during which other processes used the machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath
from typing import Any

from nybble.disturbance import warning
from nybble.report.records import Bench, Disturbance
from nybble.report.source import Material, Named

#: The mark of such a figure.
MARK = "DISTURBED"


def mark(taken: Disturbance | None) -> str:
    """``, DISTURBED`` where others used the machine too much, else nothing."""
    return f", {MARK}" if warning(None if taken is None else taken.model_dump()) is not None else ""


def disturbed(material: Material) -> Iterator[str]:
    """A line for each measurement of speed that was disturbed."""
    for bench in material.benches:
        yield from disturbed_bench(bench)
    for profile in material.profiles:
        yield from _line(f"profile of {PurePath(profile.record.model).name}", profile, profile.record.disturbance)
    for scenario in material.scenarios:
        run = scenario.record.run
        if run is not None and scenario.record.performance is not None:
            yield from _line(f"MLPerf {scenario.record.name}", scenario, run.disturbance)


def disturbed_bench(bench: Named[Bench]) -> Iterator[str]:
    """A line where a benchmark was disturbed."""
    yield from _line("", bench, bench.record.machine.disturbance)


def _line(what: str, named: Named[Any], taken: Disturbance | None) -> Iterator[str]:
    text = warning(None if taken is None else taken.model_dump())
    if text is not None:
        where = ", ".join(part for part in (named.label, what) if part)
        yield f"{where}{': ' if where else ''}{text}."
