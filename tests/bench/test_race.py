"""How rounds become ratios, who counts as wrong, and which INT8 model is chosen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nybble.bench import race, scaling
from nybble.bench.peers import Candidate, choose, share_right
from nybble.bench.race import Contestant, Entry, Runs
from nybble.bench.restrict import Restriction
from nybble.bench.result import float_top1, is_wrong, ratio_records, run_records
from nybble.bench.scaling import Speeds, loop_isa, scaling_record
from nybble.engine.engine import available_isas


class _Fixed:
    """A contestant that needs the same time for each photo."""

    def __init__(self, name: str, seconds: float) -> None:
        self.name = name
        self.seconds = seconds

    def run(self, photos: Sequence[int], batch: int) -> dict[str, Any]:
        calls = -(-len(photos) // batch)
        return {"seconds": self.seconds * len(photos), "latencies": [self.seconds * len(photos) / calls] * calls}


def _runs(*speeds: float) -> Runs:
    return Runs(list(speeds), [1 / speed for speed in speeds], 1000)


def _contestant(name: str, engine: str, bits: int, mode: str = "latency", activations: str = "real") -> Contestant:
    return Contestant(name, engine, bits, Path(name), mode, activations)


OURS = _contestant("ours", "nybble", 4)
DENSE = _contestant("ours, dense", "nybble", 4, activations="dense")
INT8 = _contestant("peer INT8", "openvino", 8)
QUEUE = _contestant("peer INT8, throughput", "openvino", 8, "throughput")
OTHER = _contestant("other INT8", "onnxruntime", 8)
FLOAT = _contestant("peer FP32", "openvino", 32)
EVERYBODY = [OURS, DENSE, INT8, QUEUE, OTHER, FLOAT]
RUNS = {
    Entry("ours", 1): _runs(10, 20, 40),
    Entry("ours", 8): _runs(30, 40, 50),
    Entry("ours, dense", 1): _runs(6, 6, 6),
    Entry("ours, dense", 8): _runs(6, 7, 8),
    Entry("peer INT8", 1): _runs(10, 10, 10),
    Entry("peer INT8", 8): _runs(8, 8, 8),
    Entry("peer INT8, throughput", 1): _runs(15, 20, 25),
    Entry("peer INT8, throughput", 8): _runs(4, 4, 4),
    Entry("other INT8", 1): _runs(90, 90, 90),
    Entry("other INT8", 8): _runs(90, 90, 90),
    Entry("peer FP32", 1): _runs(5, 5, 5),
    Entry("peer FP32", 8): _runs(4, 4, 4),
}


def test_turns_collect_speed_and_latency(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(race, "SETTLE", 0)
    runs: dict[Entry, Runs] = {}
    contestants = [_Fixed("a", 0.01), _Fixed("b", 0.04)]
    assert race.run_rounds(contestants, [[0, 1, 2], [3, 4, 0]], [1, 2], runs) == 2
    assert runs[Entry("a", 2)].images_per_second == pytest.approx([100, 100])
    assert runs[Entry("a", 2)].latencies == pytest.approx([0.015] * 4)
    assert race.paired(runs, Entry("a", 1), Entry("b", 2)).median == pytest.approx(4)


def test_scaling_is_held_against_the_loop_round_by_round() -> None:
    engine = {1: Speeds([10, 20, 10], [18, 36, 16]), 8: Speeds([10, 10, 10], [19, 19, 19])}
    loop = Speeds([1, 2, 1], [2, 3.6, 2])
    record = scaling_record(engine, loop, 2, "avx512")
    assert record["loop"]["isa"] == "avx512"
    assert (record["threads"], record["rounds"]) == (2, 3)
    assert record["batch_1"] == pytest.approx(0.9)
    assert record["batch_1_spread"]["extremes"] == pytest.approx((0.8, 1.0))
    assert record["batch_1_spread"]["engine"] == pytest.approx(1.8)
    assert record["batch_1_spread"]["loop"] == pytest.approx(2.0)
    # The fastest of all threads; each side at its own best.
    assert record["best_batch_spread"]["batch"] == 8
    assert record["best_batch"] == pytest.approx(0.95)
    assert scaling_record({8: engine[8]}, loop, 2, "avx2")["batch_1"] is None


def test_scaling_takes_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "SETTLE", 0)
    monkeypatch.setattr(scaling, "WINDOW", 0.001)
    isas = [isa for each in available_isas() if (isa := loop_isa(each)) is not None]
    if not isas:
        pytest.skip("this processor has no loop")
    rounds = [[0, 1], [2, 3], [4, 0]]
    record = scaling.measure_scaling(_Fixed("one", 0.04), _Fixed("all", 0.02), 2, isas[0], [1, 2], rounds)
    assert record["rounds"] == 3
    assert record["batch_1_spread"]["engine"] == pytest.approx(2)
    assert record["batch_1"] > 0


def test_ratios_are_paired_by_round() -> None:
    runs = {Entry("a", 1): _runs(10, 40, 10), Entry("b", 1): _runs(5, 20, 20)}
    ratio = race.paired(runs, Entry("a", 1), Entry("b", 1))
    assert ratio.median == 2.0
    assert ratio.extremes == (0.5, 2.0)


def test_the_best_peer_is_the_best_that_is_right() -> None:
    ratio = ratio_records(EVERYBODY, RUNS, {"other INT8"}, None)["int4_vs_best_int8_peer"]
    assert ratio["best_batch_spread"]["to"] == {"contestant": "peer INT8, throughput", "batch": 1}
    assert ratio["best_batch"] == 2.0
    # Calls that overlap are not an answer to one photo at a time.
    assert ratio["batch_1_spread"]["to"] == {"contestant": "peer INT8", "batch": 1}
    assert ratio["batch_1"] == 2.0


def test_the_worst_case_is_held_against_the_peers_only_case() -> None:
    ratios = ratio_records(EVERYBODY, RUNS, {"other INT8"}, None)
    assert ratios["int4_dense_vs_best_fp32"]["best_batch"] == pytest.approx(7 / 5)
    assert ratios["int4_vs_int8"]["best_batch"] is None


def test_a_peer_that_cannot_be_kept_to_an_instruction_set_leaves_the_ratios() -> None:
    avx2 = Restriction("avx2", {"SOME_VARIABLE": "avx2"})
    everybody = [replace(entry, restriction=avx2) if entry.name.startswith("peer") else entry for entry in EVERYBODY]
    free = ratio_records(everybody, RUNS, set(), None)["int4_vs_best_int8_peer"]
    kept = ratio_records(everybody, RUNS, set(), "avx2")["int4_vs_best_int8_peer"]
    assert free["best_batch_spread"]["to"]["contestant"] == "other INT8"
    assert kept["best_batch_spread"]["to"]["contestant"] == "peer INT8, throughput"


def test_a_wrong_engine_of_ours_has_no_ratio() -> None:
    ratio = ratio_records(EVERYBODY, RUNS, {"ours"}, None)["int4_vs_best_fp32"]
    assert ratio == {"best_batch": None, "batch_1": None}


def test_wrong_is_more_than_three_points_under_the_float() -> None:
    assert is_wrong(0.87, 0.9) is False
    assert is_wrong(0.868, 0.9) is True
    assert is_wrong(None, 0.9) is None
    assert is_wrong(0.5, None) is None


def test_a_float_peer_that_is_wrong_is_no_reference() -> None:
    both = [*EVERYBODY, _contestant("broken FP32", "torch", 32)]
    assert float_top1(both, {entry.name: 0.9 for entry in both} | {"broken FP32": 0.8}) == 0.9
    assert float_top1([OURS], {"ours": 0.9}) is None


def test_records_have_the_fields_that_readers_rely_on() -> None:
    top1 = {entry.name: 0.9 for entry in EVERYBODY} | {"ours": 0.8, "ours, dense": None}
    records = run_records(EVERYBODY, RUNS, 2, top1)
    assert len(records) == len(RUNS)
    first = records[0]
    assert (first["contestant"], first["bits"], first["threads"], first["batch"]) == ("ours", 4, 2, 1)
    assert first["images_per_second"] == 20
    assert first["latency"]["p50"] == 1 / 20
    assert first["latency"]["p50"] <= first["latency"]["p90"] <= first["latency"]["p99"]
    assert first["peak_rss_bytes"] == 1000
    assert first["wrong"] is True
    assert next(record for record in records if record["activations"] == "dense")["wrong"] is None


def test_a_wrong_candidate_is_not_chosen_however_fast() -> None:
    made = [
        Candidate(name, name, top1, speed)
        for name, top1, speed in (("wrong", 0.5, 99.0), ("first", 0.88, 50.0), ("same", 0.9, 51.0), ("slow", 0.9, 9.0))
    ]
    assert choose(made, 0.9).name == "first"
    assert choose(made[:1], 0.9).name == "wrong"
    broken = Candidate("broken", "broken", None, 0.0, "no kernel")
    assert choose([broken, *made], 0.9).name == "first"


def test_top1_needs_labels() -> None:
    assert share_right({0: 7, 1: 7, 4: 7}, [7, 0, 0, 0, 7]) == pytest.approx(2 / 3)
    assert share_right({0: 7}, None) is None
    assert math.isclose(race.Spread.of([1.0]).median, 1.0)
