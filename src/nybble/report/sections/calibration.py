"""Histograms of calibration, with the ranges chosen from them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from nybble.report.drawing import WIDTH, Chart, canvas, fits, rectangle, write
from nybble.report.numbers import NARROW, Cell, compact, count, percent
from nybble.report.palette import light
from nybble.report.records import Calibration, TensorRange
from nybble.report.sections.section import Section, table, titled
from nybble.report.source import Material, Named

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SMALL = 10.0
_GAP = 14.0
_PANEL = 58.0


def calibration(material: Material) -> Section | None:
    """One histogram per tensor, and the figures of all."""
    found = material.calibrations
    if not found:
        return None
    charts = [
        _chart(entry, place + 1)
        for place, entry in enumerate(found)
        if any(tensor.histogram is not None for tensor in entry.record.tensors.values())
    ]
    columns = ("tensor", "type", "values", "least", "most", "zeros", "range", "clipped")
    rows = ((entry.label, _row(name, tensor)) for entry in found for name, tensor in entry.record.tensors.items())
    return Section(
        "calibration",
        "Calibration",
        "The values of each tensor over the photos of calibration, counts in powers of ten; zeros have no bar of their "
        "own. The upright line is the range chosen: what lies beyond is clipped.",
        charts,
        [table("calibration", "Range of each tensor", columns, rows)],
        notes=[f"{titled('Calibration', entry.label)}: {_how(entry.record)}." for entry in found]
        + (
            ["Files of earlier versions have no histograms: run `nybble quantize --report DIR` again."]
            if len(charts) < len(found)
            else []
        ),
    )


def _how(record: Calibration) -> str:
    method = record.config.method
    text = f"percentile {record.config.percentile:g}" if method == "percentile" else method
    return f"{record.images:,} images, ranges by {text}"


def _row(name: str, tensor: TensorRange) -> list[Cell]:
    return [
        name,
        tensor.dtype,
        count(tensor.values),
        compact(tensor.minimum),
        compact(tensor.maximum),
        percent(tensor.zeros),
        compact(tensor.range),
        percent(tensor.clipped, 4),
    ]


def _chart(entry: Named[Calibration], number: int) -> Chart:
    drawn = {name: tensor for name, tensor in entry.record.tensors.items() if tensor.histogram is not None}
    most = max(drawn, key=lambda name: drawn[name].clipped)
    return Chart(
        f"histograms-{number}",
        titled("Histograms", entry.label),
        f"Histograms of {len(drawn)} tensors with their ranges. Most is clipped of {most}, "
        f"{percent(drawn[most].clipped, 4)} of its values.",
        lambda width: _draw(drawn, width),
        resizes=True,
    )


def _draw(tensors: dict[str, TensorRange], width: float) -> Figure:
    columns = min(2 if width <= WIDTH else 5, len(tensors))
    rows = -(-len(tensors) // columns)
    across = (width - _GAP * (columns - 1)) / columns
    down = 15 + _PANEL + 26
    figure, axes = canvas(width, rows * down)
    for place, (name, tensor) in enumerate(tensors.items()):
        x, y = place % columns * (across + _GAP), place // columns * down
        write(axes, x, y + 10, fits(name, across, _SMALL), size=_SMALL)
        _histogram(axes, x, y + 15, across, tensor)
    return figure


def _histogram(axes: Axes, x: float, y: float, width: float, tensor: TensorRange) -> None:
    histogram = tensor.histogram
    assert histogram is not None  # noqa: S101 - the caller has left others out
    base = y + _PANEL
    rectangle(axes, x, y, width, _PANEL, "track")
    if histogram.width > 0 and any(histogram.counts):
        signed = histogram.start < 0
        end = 1.05 * max(tensor.maximum, -tensor.minimum if signed else 0.0, tensor.range)
        begin = -end if signed else 0.0

        def place(value: float) -> float:
            return x + (min(max(value, begin), end) - begin) / (end - begin) * width

        tallest = math.log10(max(histogram.counts)) or 1.0
        outline: list[tuple[float, float]] = [(place(begin), base)]
        for at, number in enumerate(histogram.counts):
            height = (0.08 + 0.86 * math.log10(number) / tallest) * _PANEL if number else 0.0
            left = histogram.start + at * histogram.width
            if left >= end:
                break
            outline += [(place(left), base - height), (place(left + histogram.width), base - height)]
        outline.append((outline[-1][0], base))
        axes.fill(*zip(*outline, strict=True), color=light("rose"), linewidth=0, zorder=1.7)
        for limit in (tensor.range, -tensor.range) if signed else (tensor.range,):
            axes.plot((place(limit),) * 2, (y, base), color=light("ink"), linewidth=1.8)
    text = f"{tensor.dtype}, to {tensor.range:.3g}"
    write(axes, x, base + 13, text, "soft", _SMALL)
    write(axes, x + width, base + 13, f"0: {100 * tensor.zeros:.0f}{NARROW}%", "soft", _SMALL, "right")
