"""Memory: the peak of each process, and the size of a network's constants."""

from __future__ import annotations

from nybble.report.drawing import Bar, Chart, bar_chart
from nybble.report.numbers import count, megabytes
from nybble.report.palette import BITS
from nybble.report.records import Bench
from nybble.report.sections.accuracy import bits_colour
from nybble.report.sections.section import Section, Table, name_of, table, titled
from nybble.report.sections.speed import batches, legend
from nybble.report.source import Material, Named


def memory(material: Material) -> Section | None:
    """Peak of the resident size by batch size, and bytes of constants."""
    measured = [bench for bench in material.benches if any(run.peak_rss_bytes is not None for run in bench.record.runs)]
    charts: list[Chart] = []
    tables: list[Table] = []
    if measured:
        # Modes of one peer load the same model; the one that answers calls singly stands for it on the chart.
        ends = [run.peak_rss_bytes for bench in measured for run in bench.record.runs if run.peak_rss_bytes is not None]
        for batch in batches(measured):
            for place, bench in enumerate(measured):
                chart = _peaks(bench, place + 1, batch, max(ends) / 1e6)
                if chart is not None:
                    charts.append(chart)
        rows = (
            (
                bench.label,
                (
                    run.contestant,
                    count(run.batch),
                    None if run.peak_rss_bytes is None else megabytes(run.peak_rss_bytes),
                ),
            )
            for bench in measured
            for run in bench.record.runs
        )
        tables.append(table("memory", "Peak of the resident size", ("contestant", "batch", "peak"), rows))
    sizes = [
        (found, stage, stage.bytes)
        for found in material.quantizations
        for stage in found.record.stages
        if stage.bytes is not None
    ]
    if sizes:
        bars = [
            Bar(
                titled(f"{name_of(found.record.source)}, {stage.name}", found.label),
                size / 1e6,
                str(megabytes(size)),
                "float" if stage.name == "float" else bits_colour(found.record.bits),
            )
            for found, stage, size in sizes
        ]
        charts.append(bar_chart("constants", "Constants of the network", "megabytes", [("", bars)]))
        tables.append(
            table(
                "constants",
                "All constants of the network",
                ("network", "size"),
                (
                    (found.label, (f"{name_of(found.record.source)}, {stage.name}", megabytes(size)))
                    for found, stage, size in sizes
                ),
            )
        )
    if not charts:
        return None
    return Section(
        "memory",
        "Memory",
        "Megabytes, shorter is better."
        + (" Peaks are those of the whole process, photos of a turn included." if measured else ""),
        charts,
        tables,
        legend(measured),
    )


def _peaks(bench: Named[Bench], number: int, batch: int, limit: float) -> Chart | None:
    bars = [
        Bar(
            run.contestant,
            run.peak_rss_bytes / 1e6,
            str(megabytes(run.peak_rss_bytes)),
            BITS.get(run.bits, "ink"),
            hollow=run.activations == "dense",
        )
        for run in bench.record.runs
        if run.batch == batch and run.mode == "latency" and run.peak_rss_bytes is not None
    ]
    if not bars:
        return None
    title = titled(f"Batch {batch}: peak memory", bench.label)
    return bar_chart(f"memory-{number}-batch-{batch}", title, "megabytes", [("", bars)], limit)
