"""From rounds to the result: speeds, latencies, wrong contestants, and ratios."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nybble.bench.peers import MARGIN
from nybble.bench.race import Contestant, Entry, Runs, Spread, paired

#: Ratio by name: (bits, activations) of ours, and of what it is compared with; ``None`` for ours means the peers.
RATIOS: dict[str, tuple[tuple[int, str], str, int, str]] = {
    "int4_vs_int8": ((4, "real"), "nybble", 8, "real"),
    "int4_vs_best_int8_peer": ((4, "real"), "peers", 8, "real"),
    "int4_vs_best_fp32": ((4, "real"), "peers", 32, "real"),
    "int8_vs_best_int8_peer": ((8, "real"), "peers", 8, "real"),
    "int4_dense_vs_int8_dense": ((4, "dense"), "nybble", 8, "dense"),
    "int4_dense_vs_best_int8_peer": ((4, "dense"), "peers", 8, "real"),
    "int4_dense_vs_best_fp32": ((4, "dense"), "peers", 32, "real"),
}


def float_top1(contestants: Sequence[Contestant], top1: Mapping[str, float | None]) -> float | None:
    """The best top-1 of those that run the float network: one of them could be wrong itself."""
    known = (top1[entry.name] for entry in contestants if entry.bits == 32)
    return max((share for share in known if share is not None), default=None)


def is_wrong(top1: float | None, float_top1: float | None) -> bool | None:
    """Whether an accuracy is more than 3 points under the float's; ``None`` where that is not known."""
    if top1 is None or float_top1 is None:
        return None
    # Half a photo of room for what binary fractions do to the subtraction.
    return top1 < float_top1 - MARGIN - 1e-9


def run_records(
    contestants: Sequence[Contestant], runs: dict[Entry, Runs], threads: int, top1: dict[str, float | None]
) -> list[dict[str, Any]]:
    """The ``runs`` of the result: one object per contestant and batch size."""
    reference = float_top1(contestants, top1)
    return [
        _record(contestant, batch, runs[Entry(name, batch)], threads, top1[name], reference)
        for contestant in contestants
        for name, batch in runs
        if name == contestant.name
    ]


def ratio_records(
    contestants: Sequence[Contestant], runs: dict[Entry, Runs], wrong: set[str], peer_isa: str | None
) -> dict[str, Any]:
    """The ``ratios`` of the result; a ratio is ``None`` if a side is missing or has only wrong contestants."""
    found: dict[str, Any] = {}
    for name, ((bits, activations), against, other_bits, other_activations) in RATIOS.items():
        ours = _pick(contestants, wrong, "nybble", bits, activations, None)
        others = _pick(contestants, wrong, against, other_bits, other_activations, peer_isa)
        found[name] = ratio_of(runs, ours, others)
    return found


def _pick(
    contestants: Sequence[Contestant],
    wrong: set[str],
    group: str,
    bits: int,
    activations: str,
    peer_isa: str | None,
) -> list[Contestant]:
    return [
        entry
        for entry in contestants
        if (entry.engine == "nybble") == (group == "nybble")
        and (entry.bits, entry.activations) == (bits, activations)
        and entry.name not in wrong
        # A peer that cannot be restricted to the instruction set would use a different one.
        and (peer_isa is None or entry.engine == "nybble" or entry.restriction is not None)
    ]


def ratio_of(runs: dict[Entry, Runs], ours: list[Contestant], others: list[Contestant]) -> dict[str, Any]:
    """The speed of our fastest contestant divided by that of the fastest other one: at any batch size, and at 1."""
    result: dict[str, Any] = {"best_batch": None, "batch_1": None}
    for kind in ("best_batch", "batch_1"):
        # One photo at a time, one call after the other: overlapping calls have no meaningful latency.
        sides = [
            [
                Entry(entry.name, batch)
                for entry in side
                for name, batch in runs
                if name == entry.name and (kind == "best_batch" or (batch == 1 and entry.mode == "latency"))
            ]
            for side in (ours, others)
        ]
        if not all(sides):
            continue
        one, other = (max(side, key=lambda entry: runs[entry].median) for side in sides)
        spread = paired(runs, one, other)
        result[kind] = spread.median
        result[f"{kind}_spread"] = {
            "quartiles": spread.quartiles,
            "extremes": spread.extremes,
            "of": {"contestant": one.name, "batch": one.batch},
            "to": {"contestant": other.name, "batch": other.batch},
        }
    return result


def _record(
    contestant: Contestant, batch: int, run: Runs, threads: int, top1: float | None, reference: float | None
) -> dict[str, Any]:
    speed = Spread.of(run.images_per_second)
    p50, p90, p99 = np.percentile(run.latencies, [50, 90, 99]).tolist()
    return {
        "contestant": contestant.name,
        "engine": contestant.engine,
        "bits": contestant.bits,
        "mode": contestant.mode,
        "activations": contestant.activations,
        "isa": contestant.restriction.isa if contestant.restriction else contestant.isa,
        "threads": threads,
        "batch": batch,
        "images_per_second": speed.median,
        "images_per_second_spread": {
            "quartiles": speed.quartiles,
            "extremes": speed.extremes,
            "rounds": run.images_per_second,
        },
        # Seconds of a call of this batch size.
        "latency": {"p50": p50, "p90": p90, "p99": p99},
        "peak_rss_bytes": run.peak_rss_bytes,
        "top1": top1,
        "wrong": is_wrong(top1, reference),
    }
