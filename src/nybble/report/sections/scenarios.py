"""MLPerf's scenarios: LoadGen's measurements, and whether they are valid."""

from __future__ import annotations

from collections.abc import Iterator

from nybble.report.drawing import Bar, bar_chart
from nybble.report.numbers import NARROW, Cell, Number, count, percent, plain
from nybble.report.palette import UNKNOWN
from nybble.report.sections.disturbed import mark
from nybble.report.sections.section import Section, Table, name_of, table
from nybble.report.source import Material, Named
from nybble.report.submission import Scenario

#: Percentiles of the table, of those that LoadGen logs.
_PERCENTILES = ("50", "90", "95", "97", "99", "99.9")


def scenarios(material: Material) -> Section | None:
    """Figures and latencies of each scenario, and why one is invalid or no submission."""
    found = material.scenarios
    if not found:
        return None
    charts = []
    rates = [entry for entry in found if _unit(entry.record) == "samples/s" and _figure(entry.record) is not None]
    if rates:
        bars = [_rate(entry) for entry in rates]
        charts.append(bar_chart("scenario-rates", "Samples a second", "samples a second", [("", bars)]))
    timed = [entry for entry in found if _percentiles(entry.record)]
    if timed:
        times = [_latency(entry) for entry in timed]
        title, what = "Latency: median, 90th and 99th percentile", "milliseconds, median, 90th and 99th percentile"
        charts.append(bar_chart("scenario-latencies", title, what, [("", times)]))
    return Section(
        "scenarios",
        "MLPerf scenarios",
        "Measured by LoadGen. What MLPerf compares is samples a second in Offline and Server, and LoadGen's estimate "
        "of a latency percentile in SingleStream (of a photo) and MultiStream (of a query of several).",
        charts,
        [_figures(material), *_latencies(material)],
        warnings=list(_invalid(material)),
        notes=list(_shortfalls(material)),
        open_tables=True,
    )


def _figures(material: Material) -> Table:
    columns = (
        "scenario",
        "network",
        "result",
        "unit",
        "verdict",
        "top-1",
        "low",
        "high",
        "threads",
        "batch",
        "kernels",
        "remark",
    )
    return table(
        "scenarios",
        "What MLPerf compares, LoadGen's verdict, and top-1 of the accuracy run with its 95 % interval",
        columns,
        ((entry.label, _row(entry.record)) for entry in material.scenarios),
    )


def _row(scenario: Scenario) -> list[Cell]:
    result, right, figure = scenario.performance, scenario.accuracy, _figure(scenario)
    run = next(iter(scenario.run.runs.values()), None) if scenario.run is not None else None
    shares: list[Cell] = [None] * 3
    if right is not None:
        shares = [percent(right.value), *(percent(end) for end in right.interval)]
    return [
        scenario.name,
        name_of(scenario.run.request.name) if scenario.run is not None else None,
        None if figure is None else plain(figure, 2),
        None if result is None or figure is None else result.unit,
        None if result is None else "VALID" if result.valid else "INVALID",
        *shares,
        count(run.threads) if run is not None else None,
        count(run.batch) if run is not None else None,
        run.isa if run is not None else None,
        (mark(scenario.run.disturbance).removeprefix(", ") or None) if scenario.run is not None else None,
    ]


def _latencies(material: Material) -> list[Table]:
    timed = [entry for entry in material.scenarios if _percentiles(entry.record)]
    known = [name for name in _PERCENTILES if any(name in _percentiles(entry.record) for entry in timed)]
    if not timed:
        return []
    rows = (
        (entry.label, (entry.record.name, *(_cell(_percentiles(entry.record).get(name)) for name in known)))
        for entry in timed
    )
    columns = ("scenario", *("median" if name == "50" else f"{name}th" for name in known))
    return [table("scenario-latencies", "Milliseconds by percentile, as LoadGen logged them", columns, rows)]


def _cell(value: float | None) -> Number | None:
    return None if value is None else plain(value, 2)


def _rate(entry: Named[Scenario]) -> Bar:
    result = entry.record.performance
    assert result is not None  # noqa: S101 - the caller has chosen those that have one
    text = str(plain(result.figure)) if result.valid else f"{plain(result.figure)} INVALID"
    return Bar(_label(entry), result.figure, text, UNKNOWN, hollow=not result.valid)


def _latency(entry: Named[Scenario]) -> Bar:
    found = _percentiles(entry.record)
    ends = [found[name] for name in ("50", "90", "99")]
    text = f"{' / '.join(str(plain(value)) for value in ends)}{NARROW}ms"
    valid = entry.record.performance is not None and entry.record.performance.valid
    label = _label(entry) + ("" if valid else ", INVALID")
    return Bar(label, ends[0], text, UNKNOWN, ends[0], ends[2], (ends[1],), hollow=not valid)


def _label(entry: Named[Scenario]) -> str:
    name = f"{entry.record.name} ({entry.label})" if entry.label else entry.record.name
    return name + mark(entry.record.run.disturbance if entry.record.run is not None else None)


def _figure(scenario: Scenario) -> float | None:
    """The figure of the performance run; ``None`` where LoadGen ended without one and logged 0."""
    result = scenario.performance
    return result.figure if result is not None and result.figure > 0 else None


def _unit(scenario: Scenario) -> str:
    return scenario.performance.unit if scenario.performance is not None else ""


def _percentiles(scenario: Scenario) -> dict[str, float]:
    # Offline is one query: the latency of its photos only reflects their order.
    result = scenario.performance
    found = result.percentiles if result is not None and scenario.name != "Offline" else {}
    # A run that LoadGen ended early logs zeros.
    return found if {"50", "90", "99"} <= found.keys() and found["99"] > 0 else {}


def _invalid(material: Material) -> Iterator[str]:
    for entry in material.scenarios:
        result = entry.record.performance
        for reason in result.reasons if result is not None else ():
            yield f"{_label(entry)} is INVALID: {reason}."


def _shortfalls(material: Material) -> Iterator[str]:
    """The reasons why results are no submission; a reason that all share is given once."""
    said: dict[tuple[str, ...], list[str]] = {}
    for entry in material.scenarios:
        run = entry.record.run
        if run is not None and run.shortfalls:
            said.setdefault(tuple(run.shortfalls), []).append(_label(entry))
    for reasons, labels in said.items():
        yield f"{', '.join(labels)}: not a submission, {'; '.join(reasons)}."
