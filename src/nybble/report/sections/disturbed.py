"""Measurements during which others used the machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath
from typing import Any

from nybble.bench.machine import is_disturbed
from nybble.report.numbers import NARROW
from nybble.report.records import Bench, Disturbance
from nybble.report.source import Material, Named


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
    if taken is None or not is_disturbed(taken.model_dump()):
        return
    where = ", ".join(part for part in (named.label, what) if part)
    share = taken.other_processes + taken.other_guests
    yield (
        f"{where}{': ' if where else ''}other work used {100 * share:.0f}{NARROW}% of the machine meanwhile, "
        "so these speeds are not what it can do."
    )
