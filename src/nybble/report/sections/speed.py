"""Throughput, ratios and latency of a benchmark."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from nybble.report.drawing import Bar, Chart, Dot, bar_chart, draw_intervals
from nybble.report.numbers import NARROW, Cell, count, milliseconds, plain, times
from nybble.report.palette import BITS
from nybble.report.records import Bench, RatioSpread, Run
from nybble.report.sections.disturbed import disturbed_bench, mark
from nybble.report.sections.section import Section, table, titled
from nybble.report.source import Material, Named

#: Ratios of ``bench.result.RATIOS``, in words.
RATIOS = {
    "int4_vs_int8": "4 bits to own 8 bits",
    "int4_vs_best_int8_peer": "4 bits to best INT8 peer",
    "int4_vs_best_fp32": "4 bits to best FP32 peer",
    "int8_vs_best_int8_peer": "8 bits to best INT8 peer",
    "int4_dense_vs_int8_dense": "dense: 4 bits to own 8 bits",
    "int4_dense_vs_best_int8_peer": "dense: 4 bits to best INT8",
    "int4_dense_vs_best_fp32": "dense: 4 bits to best FP32",
}
_KINDS = (("best_batch", "each side's best batch"), ("batch_1", "batch 1"))
_LEGEND = (("four", "4 bits"), ("eight", "8 bits"), ("float", "32-bit float"))
_HOLLOW = ("hollow", "dense")
#: The column of what a reader has to know of a row.
REMARK = "remark"


def throughput(material: Material) -> Section | None:
    """Images per second: bars to the median of rounds, whiskers between quartiles."""
    measured = [bench for bench in material.benches if bench.record.runs]
    if not measured:
        return None
    charts = []
    for batch in batches(measured):
        ends = [run.images_per_second_spread.quartiles[1] for bench in measured for run in _of(bench, batch)]
        for place, bench in enumerate(measured):
            if _of(bench, batch):
                title = titled(f"Batch {batch}", bench.label)
                charts.append(
                    throughput_chart(bench.record, f"throughput-{place + 1}-batch-{batch}", title, (batch,), max(ends))
                )
    rows: Iterator[tuple[str, list[Cell]]] = (
        (
            bench.label,
            [
                run.contestant + (" (WRONG)" if run.wrong else ""),
                count(run.batch),
                plain(run.images_per_second),
                *(plain(value) for value in run.images_per_second_spread.quartiles),
                *(plain(value) for value in run.images_per_second_spread.extremes),
                count(run.threads),
                _remark(bench),
            ],
        )
        for bench in measured
        for run in bench.record.runs
    )
    columns = (
        "contestant",
        "batch",
        "images/s",
        "lower quartile",
        "upper quartile",
        "slowest",
        "fastest",
        "threads",
        REMARK,
    )
    dense = any(_dense(run) for bench in measured for run in bench.record.runs)
    return Section(
        "throughput",
        "Throughput",
        "Images per second, longer is better: the median of rounds in which everybody took turns on the same photos. "
        "The whisker joins the quartiles."
        + (" Dense is the worst case: the same network without a zero among its activations." if dense else ""),
        charts,
        [table("throughput", "Images per second over the rounds", columns, rows)],
        legend(measured),
        [text for bench in measured for text in _warnings(bench)],
    )


def throughput_chart(
    bench: Bench, key: str, title: str, batch_sizes: Sequence[int], limit: float | None = None
) -> Chart:
    """Bars of a benchmark's throughput, in groups where there are several batch sizes."""

    def bar(run: Run) -> Bar:
        low, high = run.images_per_second_spread.quartiles
        text = "WRONG" if run.wrong else str(plain(run.images_per_second))
        return Bar(
            run.contestant, run.images_per_second, text, _colour(run), low, high, (), _dense(run), bool(run.wrong)
        )

    groups = _groups(bench.runs, batch_sizes, bar)
    return bar_chart(
        key, f"{title}: images per second{mark(bench.machine.disturbance)}", "images per second", groups, limit
    )


def latency(material: Material) -> Section | None:
    """Seconds of a call, of contestants that answer one call at a time."""
    measured = [bench for bench in material.benches if bench.record.runs]
    if not measured:
        return None
    charts = []
    for batch in batches(measured):
        ends = [run.latency.p99 for bench in measured for run in _answering(_of(bench, batch))]
        for place, bench in enumerate(measured):
            if _answering(_of(bench, batch)):
                title = titled(f"Batch {batch}", bench.label)
                charts.append(
                    latency_chart(bench.record, f"latency-{place + 1}-batch-{batch}", title, (batch,), max(ends))
                )
    rows: Iterator[tuple[str, list[Cell]]] = (
        (
            bench.label,
            [
                run.contestant,
                count(run.batch),
                milliseconds(run.latency.p50),
                milliseconds(run.latency.p90),
                milliseconds(run.latency.p99),
                _remark(bench),
            ],
        )
        for bench in measured
        for run in bench.record.runs
        if run.mode == "latency"
    )
    columns = ("contestant", "batch", "median", "90th percentile", "99th percentile", REMARK)
    return Section(
        "latency",
        "Latency",
        "Milliseconds until a call is answered, shorter is better: the bar ends at the median, the whisker at the 99th "
        "percentile, with a tick at the 90th. Whoever overlaps calls is not shown.",
        charts,
        [table("latency", "Time of a call of so many photos", columns, rows)],
        legend(measured),
    )


def latency_chart(bench: Bench, key: str, title: str, batch_sizes: Sequence[int], limit: float | None = None) -> Chart:
    """Bars of a benchmark's latency: median, with 90th and 99th percentile."""

    def bar(run: Run) -> Bar:
        found = run.latency
        values = [str(milliseconds(value)).removesuffix(f"{NARROW}ms") for value in (found.p50, found.p90, found.p99)]
        text = "WRONG" if run.wrong else f"{' / '.join(values)}{NARROW}ms"
        colour = _colour(run)
        return Bar(
            run.contestant, found.p50, text, colour, found.p50, found.p99, (found.p90,), _dense(run), bool(run.wrong)
        )

    groups = _groups(_answering(bench.runs), batch_sizes, bar)
    what = "median, 90th and 99th percentile of a call's time"
    return bar_chart(key, f"{title}: milliseconds of a call{mark(bench.machine.disturbance)}", what, groups, limit)


def ratios(material: Material) -> Section | None:
    """How many times as fast, from pairs of the same round."""
    measured = [bench for bench in material.benches if any(_known(bench.record))]
    if not measured:
        return None
    found = [(bench, *entry) for bench in measured for entry in _known(bench.record)]
    end = 1.08 * max(1.0, *(spread.quartiles[1] for *_, spread in found))
    step = next(step for step in (0.5, 1, 2, 5, 10, 50, 100, 1000, 1e9) if end / step <= 6)
    ticks = [(step * place, f"{step * place:g}\N{MULTIPLICATION SIGN}") for place in range(int(end / step) + 1)]
    charts = [_ratio_chart(bench, place + 1, (0.0, end), ticks) for place, bench in enumerate(measured)]
    rows: Iterator[tuple[str, list[Cell]]] = (
        (
            bench.label,
            [
                RATIOS.get(name, name),
                kind,
                times(value),
                *(times(end) for end in spread.quartiles),
                *(times(end) for end in spread.extremes),
                f"{spread.of.contestant}, batch {spread.of.batch}",
                f"{spread.to.contestant}, batch {spread.to.batch}",
                _remark(bench),
            ],
        )
        for bench, name, kind, value, spread in found
    )
    columns = ("ratio", "at", "median", "lower quartile", "upper quartile", "least", "most", "of", "to", REMARK)
    return Section(
        "ratios",
        "Times as fast",
        "The ratio of two speeds of the same round on the same photos: the dot is the median over the rounds, the line "
        "joins the quartiles. Left of 1\N{MULTIPLICATION SIGN} the other side is faster.",
        charts,
        [table("ratios", "Paired ratios of images per second", columns, rows)],
    )


def _ratio_chart(
    bench: Named[Bench], number: int, ends: tuple[float, float], ticks: Sequence[tuple[float, str]]
) -> Chart:
    groups: dict[str, list[Dot]] = {}
    for name, kind, value, spread in _known(bench.record):
        low, high = spread.quartiles
        dot = Dot(
            RATIOS.get(name, name),
            value,
            low,
            high,
            f"{times(value)} ({low:.2f}\N{EN DASH}{high:.2f})",
            _ratio_colour(name),
        )
        groups.setdefault(kind, []).append(dot)
    listed = [(f"At {kind}", dots) for kind, dots in groups.items()]
    described = "; ".join(f"{dot.label} {dot.text}" for _, dots in listed for dot in dots)
    return Chart(
        f"ratios-{number}",
        titled("Times as fast", bench.label) + mark(bench.record.machine.disturbance),
        f"Dots with quartiles: {described}.",
        lambda width: draw_intervals(listed, width, ends, ticks, line=1.0),
    )


def _known(bench: Bench) -> Iterator[tuple[str, str, float, RatioSpread]]:
    for key, kind in _KINDS:
        for name, ratio in bench.ratios.items():
            value, spread = getattr(ratio, key), getattr(ratio, f"{key}_spread")
            if value is not None and spread is not None:
                yield name, kind, value, spread


def _groups(runs: Sequence[Run], batch_sizes: Sequence[int], bar: Callable[[Run], Bar]) -> list[tuple[str, list[Bar]]]:
    return [
        (f"Batch {batch}" if len(batch_sizes) > 1 else "", [bar(run) for run in runs if run.batch == batch])
        for batch in batch_sizes
    ]


def batches(measured: Sequence[Named[Bench]]) -> list[int]:
    """All batch sizes, the smallest first."""
    return sorted({run.batch for bench in measured for run in bench.record.runs})


def _of(bench: Named[Bench], batch: int) -> list[Run]:
    return [run for run in bench.record.runs if run.batch == batch]


def legend(measured: Sequence[Named[Bench]]) -> tuple[tuple[str, str], ...]:
    """What the colours that are there say, and hollow bars where there are any."""
    runs = [run for bench in measured for run in bench.record.runs]
    shown = {_colour(run) for run in runs}
    named = tuple(entry for entry in _LEGEND if entry[0] in shown) or _LEGEND
    return (*named, _HOLLOW) if any(map(_dense, runs)) else named


def _answering(runs: Sequence[Run]) -> list[Run]:
    """Calls that overlap say nothing about one call."""
    return [run for run in runs if run.mode == "latency"]


def _colour(run: Run) -> str:
    return BITS.get(run.bits, "ink")


def _dense(run: Run) -> bool:
    return run.activations == "dense"


def _ratio_colour(name: str) -> str:
    return "eight" if name.startswith("int8") else "four"


def _remark(bench: Named[Bench]) -> str | None:
    return mark(bench.record.machine.disturbance).removeprefix(", ") or None


def _warnings(bench: Named[Bench]) -> Iterator[str]:
    where = f"{bench.label}: " if bench.label else ""
    yield from disturbed_bench(bench)
    for name in dict.fromkeys(run.contestant for run in bench.record.runs if run.wrong):
        yield f"{where}{name} is more than 3 points less accurate than the float network: it is WRONG, not fast."
