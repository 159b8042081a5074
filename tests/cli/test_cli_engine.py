"""The commands with the engine itself; the other files put the reference in its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import nybble
from model_server import running
from nybble import published


@pytest.mark.parametrize("isa", nybble.available_isas())
@pytest.mark.parametrize(("threads", "batch"), [(1, 1), (2, 3)])
def test_engine_and_reference_agree(
    run: Any, model: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, isa: str, threads: int, batch: int
) -> None:
    monkeypatch.setenv("NYBBLE_ISA", isa)
    result = run("verify", model, "--images", photos, "--layers", "--threads", threads, "--batch", batch, "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert (report["isa"], report["threads"], report["images"]) == (isa, threads, 7)
    assert report["steps"] > 10


def test_evaluate_counts_what_the_labels_were_made_for(run: Any, model: Path, photos: Path) -> None:
    report = json.loads(run("evaluate", model, "--images", photos, "--json").stdout)
    assert (report["top1_right"], report["top5_right"], report["images"]) == (5, 6, 7)


def test_evaluate_by_the_reference_gives_the_same_predictions(
    run: Any, model: Path, photos: Path, tmp_path: Path
) -> None:
    run("evaluate", model, "--images", photos, "--predictions", tmp_path / "engine.csv")
    result = run(
        "evaluate", model, "--images", photos, "--reference", "--predictions", tmp_path / "reference.csv", "--json"
    )
    assert json.loads(result.stdout)["isa"] == "reference"
    assert (tmp_path / "engine.csv").read_bytes() == (tmp_path / "reference.csv").read_bytes()


def test_classify(run: Any, model: Path, photos: Path) -> None:
    report = json.loads(run("classify", model, photos / "0.png", "--json", "--top", 10).stdout)
    scores = [prediction["score"] for prediction in report["photos"][0]["predictions"]]
    assert len(scores) == 10
    assert sum(scores) == pytest.approx(1)


def test_an_unknown_instruction_set(run: Any, model: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NYBBLE_ISA", "sse9")
    result = run("classify", model, photos / "0.png")
    assert (result.exit_code, result.stdout) == (3, "")
    assert "sse9" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.data
def test_from_fetch_to_the_right_answers(run: Any, shared_data: Path, tmp_path: Path) -> None:
    name = "nvidia-resnet50-int4"
    with running() as server:
        files = published.read_manifest(name).files
        server.contents = {file.path: (shared_data / name / file.path).read_bytes() for file in files}
        assert "346 files, 14.0 MB downloaded" in run("fetch", name, "--url", server.base).stdout
    table = tmp_path / "predictions.csv"
    photos = shared_data / "imagenet-val-10"
    assert run("evaluate", name, "--images", photos, "--predictions", table).exit_code == 0
    found = [line.split(",")[2] for line in table.read_text().splitlines()[1:]]
    # What an NVIDIA T4 answered, logged with its MLPerf result.
    assert found == [line.split(",")[2] for line in (photos / "labels.csv").read_text().splitlines()[1:]]
    result = run("verify", name, "--images", photos, "--layers", "--limit", 1)
    assert result.exit_code == 0, result.output
