"""Metrics of networks that do not classify: AP, mIoU, PSNR, H-mean."""

from __future__ import annotations

from nybble.report.numbers import Cell, Number, count, percent, plain
from nybble.report.records import Figure
from nybble.report.sections.section import Section, name_of, table
from nybble.report.source import Material

#: Metrics that are not shares.
_DECIBELS = ("PSNR",)


def tasks(material: Material) -> Section | None:
    """Each metric of each network with its 95 % interval."""
    rows = [
        (
            found.label,
            (
                name_of(found.record.model),
                found.record.task,
                name_of(found.record.folder),
                count(found.record.images),
                metric,
                *_cells(metric, figure),
            ),
        )
        for found in material.tasks
        for metric, figure in found.record.metrics.items()
    ]
    if not rows:
        return None
    columns = ("network", "task", "photos", "count", "metric", "value", "low", "high")
    return Section(
        "tasks",
        "Detection, segmentation, restoration and text",
        "The metric of each task with its 95 % interval by the bootstrap over photos. Figures of different photos are "
        "not comparable.",
        (),
        [table("tasks", "Metrics with their 95 % intervals", columns, rows)],
        open_tables=True,
    )


def _cells(metric: str, figure: Figure) -> tuple[Cell, Cell, Cell]:
    return _shown(metric, figure.value), _shown(metric, figure.low), _shown(metric, figure.high)


def _shown(metric: str, value: float | None) -> Number | None:
    if value is None:
        return None
    return plain(value, 2) if metric in _DECIBELS else percent(value)
