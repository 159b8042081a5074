"""The pictures of one benchmark, beside its result: ``nybble bench`` writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nybble.report.drawing import Chart, write_chart
from nybble.report.records import Bench
from nybble.report.sections.roofline import roofline
from nybble.report.sections.speed import batches, latency_chart, throughput_chart
from nybble.report.source import Material, Named


def write_plots(result: dict[str, Any], stem: Path) -> list[Path]:
    """Write ``STEM-throughput``, ``STEM-latency`` and, where layers and ceilings were measured, ``STEM-roofline``.

    Each as PNG and SVG, as ``nybble report`` draws them. Raises :class:`ReportError` where Matplotlib is not installed.
    """
    bench = Bench.model_validate(result)
    named = Named("", "", "", bench)
    title = f"{bench.machine.cpu}, {(bench.date or '')[:10]}"
    charts: list[Chart] = []
    if bench.runs:
        sizes = batches([named])
        charts += [
            throughput_chart(bench, "throughput", title, sizes),
            latency_chart(bench, "latency", title, sizes),
        ]
    section = roofline(Material([], [named], [], [], [], [], []))
    if section is not None:
        charts += section.charts
    written = []
    for chart in charts:
        written += write_chart(chart, stem.with_name(f"{stem.name}-{chart.key.removesuffix('-1')}"))
    return written
