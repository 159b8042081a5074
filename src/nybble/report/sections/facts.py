"""The figures that a page begins with: at most six of each folder."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from nybble.report.numbers import Number, between, megabytes, milliseconds, percent, plain, times
from nybble.report.records import Bench, Evaluation, Quantization, Record
from nybble.report.sections.disturbed import mark
from nybble.report.sections.section import name_of
from nybble.report.source import Source

_MOST = 6
_RATIOS = (
    ("int4_vs_best_int8_peer", "as fast as the best INT8 of another engine"),
    ("int4_vs_int8", "as fast as the same network in 8 bits"),
    ("int4_vs_best_fp32", "as fast as the best FP32 of another engine"),
)


class Fact(NamedTuple):
    """A figure, its meaning, and its uncertainty."""

    figure: Number
    text: str
    spread: str


def facts(source: Source) -> list[Fact]:
    """The most telling figures of a folder; of several files of a kind those of the first."""
    first: dict[type[Record], Record] = {}
    for record in source.records.values():
        first.setdefault(type(record), record)
    found: list[Fact] = []
    bench = first.get(Bench)
    if isinstance(bench, Bench):
        found += islice(_ratios(bench), 2)
    found += _accuracy(first)
    if isinstance(bench, Bench):
        found += _own(bench)
    for _, scenario in source.scenarios:
        result = scenario.performance
        if result is not None and result.valid:
            counts = scenario.run is not None and not scenario.run.shortfalls
            verdict = "VALID" if counts else "VALID, not a submission"
            verdict += mark(scenario.run.disturbance if scenario.run is not None else None)
            found.append(Fact(plain(result.figure), f"{result.unit}, MLPerf {scenario.name}", verdict))
        if scenario.accuracy is not None and not any("right" in fact.text for fact in found):
            low, high = scenario.accuracy.interval
            spread = between(percent(low), percent(high))
            found.append(Fact(percent(scenario.accuracy.value), "right under LoadGen, top-1", spread))
    return found[:_MOST]


def _ratios(bench: Bench) -> Iterator[Fact]:
    for name, text in _RATIOS:
        ratio = bench.ratios.get(name)
        if ratio is not None and ratio.best_batch is not None and ratio.best_batch_spread is not None:
            low, high = ratio.best_batch_spread.quartiles
            yield Fact(
                times(ratio.best_batch), f"{text}, in 4 bits", f"quartiles {low:.2f} to {high:.2f}{_mark(bench)}"
            )


def _accuracy(first: dict[type[Record], Record]) -> Iterator[Fact]:
    evaluation, quantization = first.get(Evaluation), first.get(Quantization)
    if isinstance(evaluation, Evaluation):
        share, what = evaluation.top1, f"right, top-1 of {name_of(evaluation.model)}"
    elif isinstance(quantization, Quantization) and quantization.stages:
        stage = quantization.stages[-1]
        if stage.top1 is None:
            return
        share, what = stage.top1, f"right, top-1 of {name_of(quantization.source)}, {stage.name}"
    else:
        return
    low, high = share.interval
    yield Fact(percent(share.value), what, f"95 % interval {between(percent(low), percent(high))}")


def _own(bench: Bench) -> Iterator[Fact]:
    own = [
        run for run in bench.runs if (run.engine, run.bits, run.activations) == ("nybble", 4, "real") and not run.wrong
    ]
    if not own:
        return
    fastest = max(own, key=lambda run: run.images_per_second)
    low, high = fastest.images_per_second_spread.quartiles
    spread = f"quartiles {low:.1f} to {high:.1f}{_mark(bench)}"
    yield Fact(plain(fastest.images_per_second), f"images per second in 4 bits, batch {fastest.batch}", spread)
    single = next((run for run in own if run.batch == 1), None)
    if single is not None:
        text = f"99 % within {milliseconds(single.latency.p99)}{_mark(bench)}"
        yield Fact(milliseconds(single.latency.p50), "for one photo in 4 bits, median", text)
        if single.peak_rss_bytes is not None:
            yield Fact(megabytes(single.peak_rss_bytes), "of memory at most in 4 bits", "the whole process, batch 1")


def _mark(bench: Bench) -> str:
    return mark(bench.machine.disturbance)
