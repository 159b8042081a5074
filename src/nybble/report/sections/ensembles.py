"""Accuracy against cost of ensembles and of their members."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from nybble.report.drawing import SMALL, Chart, Legend, canvas, style_axes, write
from nybble.report.numbers import Cell, count, milliseconds, percent, plain
from nybble.report.palette import ENSEMBLE, light
from nybble.report.records import CascadePoint, EnsembleAnswers, EnsembleCalibration
from nybble.report.sections.section import Section, table, titled
from nybble.report.source import Material, Named
from nybble.statistics import Share

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Colours and markers of members. More members share the last one.
_MEMBERS = (("olive", "s"), ("violet", "^"), ("brown", "D"), ("soft", "X"))
_MEAN, _CASCADE, _CHOSEN = ("ink", "P"), ENSEMBLE, "o"


def ensembles(material: Material) -> Section | None:
    """One chart per calibration, and a table of all results."""
    found = material.ensembles
    if not found:
        return None
    columns = ("what", "deferred", "top-1", "95 % interval", "time per photo", "temperature")
    rows = ((entry.label, row) for entry in found for row in _rows(entry.record))
    return Section(
        "ensembles",
        "Ensembles",
        "Top-1 accuracy against time per photo, cross-validated: each photo was evaluated with temperatures and "
        "thresholds found on other photos. Vertical lines are 95 % intervals.",
        [chart(entry, place + 1) for place, entry in enumerate(found)],
        [table("ensembles", "Accuracy and cost", columns, rows)],
        notes=[f"{titled('Ensemble', entry.label)}: {_note(entry.record)}." for entry in found],
    )


def chart(entry: Named[EnsembleCalibration], number: int = 1) -> Chart:
    """Accuracy against cost of one calibration."""
    record = entry.record
    described = "; ".join(f"{what} {percent(right / record.images)}" for what, right, _ in _points(record))
    return Chart(
        f"ensemble-{number}",
        titled("Accuracy against cost", entry.label),
        f"Top-1 accuracy against milliseconds per photo: {described}.",
        lambda width: _draw(record, width),
        resizes=True,
    )


def _note(record: EnsembleCalibration) -> str:
    against = record.against_best
    low, high = against.interval
    name = against.model
    return (
        f"{record.images:,} photos of {record.photos}, {record.folds} folds, {record.threads} threads; against {name} "
        f"{100 * against.difference:+.1f} points (95 % interval {100 * low:+.1f} to {100 * high:+.1f}), only {name} "
        f"right on {against.best_only} photos, only the ensemble on {against.ensemble_only}"
    )


def _points(record: EnsembleCalibration) -> Iterator[tuple[str, int, float]]:
    """Name, number of correct answers, and seconds per photo of each entry."""
    for member in record.members:
        yield member.model, member.top1_right, member.seconds
    yield "mean of all", record.mean.top1_right, record.mean.seconds
    if record.chosen is not None:
        yield f"cascade, {percent(record.chosen.share, 0)} deferred", record.chosen.top1_right, record.chosen.seconds


def _rows(record: EnsembleCalibration) -> Iterator[Sequence[Cell]]:
    total = record.images

    def accuracy(right: int, seconds: float) -> list[Cell]:
        low, high = Share(right, total).interval
        return [percent(right / total), f"{percent(low)} to {percent(high)}", milliseconds(seconds)]

    for member in record.members:
        yield [member.model, None, *accuracy(member.top1_right, member.seconds), plain(member.temperature, 3)]
    yield ["mean of all", None, *accuracy(record.mean.top1_right, record.mean.seconds), None]
    points: list[CascadePoint] = [*record.points, *([record.chosen] if record.chosen else [])]
    for point in points:
        what = "cascade, chosen" if point is record.chosen else "cascade"
        yield [what, count(point.deferred), *accuracy(point.top1_right, point.seconds), None]


def _draw(record: EnsembleCalibration, width: float) -> Figure:
    marks = [(*_MEMBERS[min(place, len(_MEMBERS) - 1)], member) for place, member in enumerate(record.members)]
    entries: list[tuple[str, str, str | None]] = [(member.model, colour, marker) for colour, marker, member in marks]
    entries.append(("mean of all", *_MEAN))
    if record.points:
        entries.append(("cascade by share deferred", _CASCADE, _CHOSEN))
    legend = Legend(entries, width)
    top, tall = legend.height + 22, min(300.0, 0.75 * width)
    total = top + tall + 46
    figure, ground = canvas(width, total)
    legend.draw(ground)
    write(ground, 0, top - 8, "top-1, %", "soft", SMALL)
    write(ground, width, total - 6, "milliseconds per photo", "soft", SMALL, "right")
    left = 40.0
    axes = figure.add_axes((left / width, 46 / total, (width - left - 8) / width, tall / total))
    style_axes(axes)
    axes.grid(color=light("line"), linewidth=0.8)
    axes.set_axisbelow(True)
    axes.margins(0.06)
    if record.points:
        _draw_curve(axes, record)
    for colour, marker, member in marks:
        answers = EnsembleAnswers(top1_right=member.top1_right, seconds=member.seconds)
        _draw_point(axes, answers, record.images, colour, marker)
    _draw_point(axes, record.mean, record.images, *_MEAN)
    if record.chosen is not None:
        _draw_point(axes, record.chosen, record.images, _CASCADE, _CHOSEN)
    axes.set_xlim(left=0)
    return figure


def _draw_curve(axes: Axes, record: EnsembleCalibration) -> None:
    across = [1e3 * point.seconds for point in record.points]
    up = [100 * point.top1_right / record.images for point in record.points]
    axes.plot(across, up, color=light(_CASCADE), linewidth=1.6, marker=".", markersize=6)


def _draw_point(axes: Axes, answers: EnsembleAnswers, total: int, colour: str, marker: str) -> None:
    place = 1e3 * answers.seconds
    low, high = Share(answers.top1_right, total).interval
    axes.plot((place, place), (100 * low, 100 * high), color=light(colour), linewidth=1.4)
    axes.plot(place, 100 * answers.top1_right / total, marker, markersize=8, color=light(colour), markeredgewidth=0)
