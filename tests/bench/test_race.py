"""How rounds become ratios, and which INT8 model is chosen."""

from __future__ import annotations

import pytest

race = pytest.importorskip("race")


class _Fixed:
    """A contestant that needs the same time for each photo."""

    def __init__(self, name: str, seconds: float) -> None:
        self.name = name
        self.seconds = seconds

    def run(self, photos: list[int], batch: int) -> dict[str, list[float]]:
        calls = -(-len(photos) // batch)
        return {"seconds": [self.seconds * len(photos) / calls] * calls, "predictions": [7 for _ in photos]}


def test_ratios_are_paired_by_round() -> None:
    runs = {("a", 1): race.Runs([10.0, 40.0, 10.0]), ("b", 1): race.Runs([5.0, 20.0, 20.0])}
    ratio = race.ratios(runs, "a", "b", 1)
    assert ratio.median == 2.0
    assert ratio.extremes == (0.5, 2.0)


def test_turns_collect_speed_and_predictions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(race, "SETTLE", 0)
    runs: dict[tuple[str, int], race.Runs] = {}
    contestants = [_Fixed("a", 0.01), _Fixed("b", 0.04)]
    assert list(race.take_turns(contestants, [[0, 1, 2], [3, 4, 0]], 2, runs)) == [1, 2]
    assert runs["a", 2].images_per_second == pytest.approx([100, 100])
    assert race.ratios(runs, "a", "b", 2).median == pytest.approx(4)
    assert runs["b", 2].top1([7, 7, 0, 0, 7]) == pytest.approx(0.6)
    assert runs["b", 2].top1(None) is None


def test_a_wrong_candidate_is_not_chosen_however_fast() -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    onnx_int8 = pytest.importorskip("onnx_int8")
    made = [
        onnx_int8.Candidate(name, name, top1, speed, {})
        for name, top1, speed in (("wrong", 0.5, 99.0), ("first", 0.88, 50.0), ("same", 0.9, 51.0), ("slow", 0.9, 9.0))
    ]
    assert onnx_int8._choose(made, 0.9).name == "first"
    assert onnx_int8._choose(made[:1], 0.9).name == "wrong"
