"""Accuracy with confidence intervals, of everything that counted right answers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from nybble.report.drawing import Chart, Dot, draw_intervals
from nybble.report.numbers import NARROW, Cell, Number, count, percent, points
from nybble.report.palette import BITS, UNKNOWN
from nybble.report.sections.section import Section, Table, name_of, table
from nybble.report.source import Material
from nybble.statistics import Share


@dataclass(frozen=True)
class _Answered:
    """A network's answers to a set of photos; ``top1`` alone where nobody wrote down how many photos there were."""

    photos: str
    network: str
    label: str
    value: float
    top1: Share | None
    top5: Share | None
    colour: str


def accuracy(material: Material) -> Section | None:
    """Top-1 with its 95 % interval, by set of photos: figures of different photos are not comparable."""
    answered = [*_evaluated(material), *_quantized(material), *_benched(material), *_logged(material)]
    if not answered:
        return _unlabelled(material)
    groups: dict[str, list[_Answered]] = {}
    for entry in answered:
        groups.setdefault(entry.photos, []).append(entry)
    low, ticks = _scale(answered)
    listed = [(f"On {photos}", [_dot(entry) for entry in entries]) for photos, entries in groups.items()]
    described = "; ".join(f"{dot.label} {dot.text} {title.lower()}" for title, dots in listed for dot in dots)
    chart = Chart(
        "accuracy",
        "Top-1 accuracy",
        f"Dots with 95 % intervals: {described}.",
        lambda width: draw_intervals(listed, width, (low, 1.0), ticks),
    )
    columns = ("photos", "network", "top-1", "low", "high", "right", "of", "top-5")
    rows = (
        (entry.label, (entry.photos, entry.network, *_cells(entry))) for entries in groups.values() for entry in entries
    )
    tables = [table("accuracy", "Top-1 with its 95 % interval (Wilson)", columns, rows)]
    differences = list(_differences(material))
    if differences:
        tables.append(
            table(
                "accuracy-against-float",
                "Against the float network on the same photos: points of top-1 with the 95 % interval of the "
                "difference (Agresti and Min), photos that only one of the two has right, and McNemar's exact test",
                ("network", "points", "low", "high", "only float right", "only this right", "p"),
                differences,
            )
        )
    tables += _agreements(material)
    unknown = any(entry.top1 is None for entry in answered)
    return Section(
        "accuracy",
        "Accuracy",
        "Share of photos whose first answer is right. The line is the 95 % interval: other photos of the same kind "
        "would give a share within it nineteen times in twenty. Intervals that overlap do not prove a difference.",
        [chart],
        tables,
        (("four", "4 bits"), ("eight", "8 bits"), ("float", "32-bit float"), (UNKNOWN, "bits not recorded"))
        if len({entry.colour for entry in answered}) > 1
        else (),
        notes=("An interval is missing where the file does not say how many photos there were.",) if unknown else (),
    )


def _unlabelled(material: Material) -> Section | None:
    """The section where nothing had labels."""
    tables = _agreements(material)
    if not tables:
        return None
    text = "Accuracy was not measured: the photos had no labels."
    return Section("accuracy", "Accuracy", text, [], tables, open_tables=True)


def _agreements(material: Material) -> list[Table]:
    rows: list[tuple[str, list[Cell]]] = [
        (found.label, [f"{name_of(found.record.source)}, {stage.name}", percent(same), count(stage.images)])
        for found in material.quantizations
        for stage in found.record.stages
        if stage.top1 is None and (same := stage.same_top1_as_float) is not None
    ]
    if not rows:
        return []
    title = "Photos without labels: how many get the float network's class"
    return [table("agreement-with-float", title, ("network", "same class", "of"), rows)]


def _evaluated(material: Material) -> Iterator[_Answered]:
    for found in material.evaluations:
        record = found.record
        network = name_of(record.model) + (" (reference interpreter)" if record.isa == "reference" else "")
        photos = _photos(record.images, record.folder)
        yield _Answered(photos, network, found.label, record.top1.value, record.top1, record.top5, UNKNOWN)


def _quantized(material: Material) -> Iterator[_Answered]:
    for found in material.quantizations:
        for stage in found.record.stages:
            if stage.top1 is None:
                continue
            colour = "float" if stage.name == "float" else bits_colour(found.record.bits)
            network = f"{name_of(found.record.source)}, {stage.name}"
            photos = f"{stage.images:,} photos that selected"
            yield _Answered(photos, network, found.label, stage.top1.value, stage.top1, stage.top5, colour)


def _benched(material: Material) -> Iterator[_Answered]:
    for found in material.benches:
        record = found.record
        seen = set()
        for run in record.runs:
            # Modes and batch sizes run the same model.
            network = run.contestant.removesuffix(", throughput")
            if run.top1 is None or (network, run.bits) in seen:
                continue
            seen.add((network, run.bits))
            share = None
            if record.photo_count is not None:
                right = round(run.top1 * record.photo_count)
                share = Share(right, record.photo_count) if right / record.photo_count == run.top1 else None
            colour = BITS.get(run.bits, UNKNOWN)
            yield _Answered(record.photos or "photos", network, found.label, run.top1, share, None, colour)


def _logged(material: Material) -> Iterator[_Answered]:
    """Under LoadGen; scenarios in which the same network gave as many right answers are one."""
    merged: dict[_Answered, None] = {}
    for found in material.scenarios:
        scenario = found.record
        if scenario.accuracy is not None:
            request = scenario.run.request if scenario.run is not None else None
            photos = _photos(scenario.accuracy.total, request.images if request is not None else "")
            network = name_of(request.name) if request is not None else scenario.system
            share = scenario.accuracy
            merged[_Answered(photos, f"{network}, MLPerf", found.label, share.value, share, None, UNKNOWN)] = None
    yield from merged


def _photos(images: int, folder: str) -> str:
    return f"{images:,} photos" + (f" of {name_of(folder)}" if folder else "")


def bits_colour(bits: str) -> str:
    """The colour of a preset of bits, such as ``w4a4``."""
    return "eight" if bits == "w8a8" else "four" if bits == "w4a4" else UNKNOWN


def _dot(entry: _Answered) -> Dot:
    low, high = entry.top1.interval if entry.top1 is not None else (None, None)
    text = str(percent(entry.value))
    if low is not None and high is not None:
        text += f" ({100 * low:.1f}\N{EN DASH}{100 * high:.1f})"
    label = f"{entry.network}, {entry.label}" if entry.label else entry.network
    return Dot(label, entry.value, low, high, text, entry.colour)


def _cells(entry: _Answered) -> list[Cell]:
    known: list[Cell] = [None] * 4
    if entry.top1 is not None:
        low, high = entry.top1.interval
        known = [percent(low), percent(high), count(entry.top1.right), count(entry.top1.total)]
    return [percent(entry.value), *known, percent(entry.top5.value) if entry.top5 is not None else None]


def _scale(answered: list[_Answered]) -> tuple[float, list[tuple[float, str]]]:
    """Where the scale begins, and its ticks: it ends at 100 %."""
    lowest = min(entry.top1.interval[0] if entry.top1 is not None else entry.value for entry in answered)
    step = next(step for step in (0.01, 0.02, 0.05, 0.1, 0.2) if (1 - lowest) / step <= 5 or step == 0.2)
    low = min(max(0.0, math.floor(lowest / step) * step), 1 - step)
    ticks = round((1 - low) / step)
    return low, [(1 - place * step, f"{100 * (1 - place * step):.0f}{NARROW}%") for place in range(ticks + 1)]


def _differences(material: Material) -> Iterator[tuple[str, list[Cell]]]:
    for found in material.quantizations:
        for stage in found.record.stages:
            against = stage.against_float
            if against is not None:
                p_value = Number(against.p_value, f"{against.p_value:.2g}")
                yield (
                    found.label,
                    [
                        f"{name_of(found.record.source)}, {stage.name}",
                        points(against.difference),
                        *(points(end) for end in against.interval),
                        count(against.float_only),
                        count(against.this_only),
                        p_value,
                    ],
                )
