from __future__ import annotations

import csv
import json
import math
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from nybble.engine.scores import ranked, softmax
from nybble.statistics import Share


def test_report(run: Any, engine: SimpleNamespace, model: Path, photos: Path) -> None:
    result = run("evaluate", model, "--images", photos, "--batch", 3, "--threads", 1, "--json")
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    report = json.loads(result.stdout)
    assert (report["images"], report["top1_right"], report["top5_right"]) == (7, 5, 6)
    assert report["top1"] == pytest.approx(5 / 7)
    assert report["top1_interval"] == pytest.approx([0.3589, 0.9178], abs=1e-4)
    assert (report["batch"], report["threads"], report["isa"]) == (3, 1, "reference")
    assert report["images_per_second"] > report["images_per_second_with_decoding"] > 0
    assert engine.made[0].calls == [3, 3, 1]


def test_text(run: Any, engine: SimpleNamespace, model: Path, photos: Path) -> None:
    lines = run("evaluate", model, "--images", photos, "--limit", 4).stdout.splitlines()
    assert lines[0] == "images             4"
    assert lines[1] == "top1               100.00% (4 of 4; 95 % interval 51.0% to 100.0%)"
    assert lines[2].startswith("top5  ")
    assert "engine only (2 threads, batch 8, reference)" in lines[3]
    assert "with reading, decoding" in lines[4]


def test_predictions(run: Any, engine: SimpleNamespace, model: Path, photos: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.csv"
    target.write_text("file,label,prediction,score\nold.png,1,2,0.5\n")
    assert run("evaluate", model, "--images", photos, "--predictions", target).exit_code == 0
    with target.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    with (photos / "labels.csv").open(newline="") as lines:
        labels = list(csv.DictReader(lines))
    assert list(rows[0]) == ["file", "label", "prediction", "score"]
    assert [(row["file"], row["label"]) for row in rows] == [(row["file"], row["label"]) for row in labels]
    assert [row["prediction"] == row["label"] for row in rows] == [True] * 5 + [False] * 2
    assert all(0.1 <= float(row["score"]) <= 1 for row in rows)
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"], "no temporary file stays"


def test_predictions_that_cannot_be_written_are_refused_at_once(
    run: Any, engine: SimpleNamespace, model: Path, photos: Path, tmp_path: Path
) -> None:
    result = run("evaluate", model, "--images", photos, "--predictions", tmp_path / "no" / "out.csv")
    assert (result.exit_code, engine.made) == (3, [])
    assert "there is no folder" in result.stderr


def test_predictions_do_not_replace_the_labels(
    run: Any, engine: SimpleNamespace, model: Path, photos: Path, tmp_path: Path
) -> None:
    shutil.copytree(photos, tmp_path / "photos")
    labels = tmp_path / "photos" / "labels.csv"
    result = run("evaluate", model, "--images", tmp_path / "photos", "--predictions", labels)
    assert result.exit_code == 3
    assert "labels.csv: is there already and is no table of predictions" in result.stderr
    assert labels.read_bytes() == (photos / "labels.csv").read_bytes()
    for _ in range(2):
        assert run("evaluate", model, "--images", photos, "--predictions", tmp_path / "new.csv").exit_code == 0


def test_predictions_are_whole_or_absent(
    run: Any, engine: SimpleNamespace, model: Path, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "out.csv").mkdir()
    result = run("evaluate", model, "--images", photos, "--predictions", tmp_path / "out.csv")
    assert result.exit_code == 3
    assert result.stderr.startswith("error: ")
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]


def test_a_label_out_of_range(run: Any, engine: SimpleNamespace, model: Path, photos: Path, tmp_path: Path) -> None:
    shutil.copy(photos / "0.png", tmp_path)
    (tmp_path / "labels.csv").write_text("file,label\n0.png,10\n")
    result = run("evaluate", model, "--images", tmp_path)
    assert result.exit_code == 3
    assert "labels.csv:2: label 10 is not in 0..9" in result.stderr


def test_no_labels(run: Any, engine: SimpleNamespace, model: Path, tmp_path: Path) -> None:
    result = run("evaluate", model, "--images", tmp_path)
    assert result.exit_code == 3
    assert "labels.csv" in result.stderr


def test_a_model_that_does_not_say_how_photos_are_prepared(
    run: Any, engine: SimpleNamespace, photos: Path, tmp_path: Path
) -> None:
    from nybble.graph import AvgPool2d, DType, Graph, Input, Pair, write_graph

    node = AvgPool2d(name="pool", inputs=("x",), input_type=DType.S8, kernel_size=Pair(2, 2), stride=Pair(2, 2))
    write_graph(Graph([Input(name="x", dtype=DType.S8, shape=(3, 8, 8))], [node], ["pool"]), tmp_path)
    result = run("evaluate", tmp_path, "--images", photos)
    assert result.exit_code == 3
    assert "preprocessing" in result.stderr


@pytest.mark.parametrize(
    ("right", "total", "low", "high"), [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (435, 500, 0.8377, 0.8966)]
)
def test_wilson_interval(right: int, total: int, low: float, high: float) -> None:
    share = Share(right, total)
    assert share.interval == pytest.approx((low, high), abs=1e-4)
    # The bounds are where the normal test of a share just accepts the observed one.
    for bound in share.interval:
        if 1e-9 < bound < 1 - 1e-9:
            deviation = math.sqrt(bound * (1 - bound) / total)
            assert abs(share.value - bound) / deviation == pytest.approx(1.959964, abs=1e-5)


def test_ranking_prefers_the_lower_index_on_ties() -> None:
    logits = np.array([[1.0, 3.0, 3.0, 2.0]], dtype=np.float32)
    assert ranked(logits, 3).tolist() == [[1, 2, 3]]
    assert ranked(logits, 9).tolist() == [[1, 2, 3, 0]]


def test_softmax_of_large_logits() -> None:
    assert softmax(np.array([[1e4, 1e4, -1e4]], dtype=np.float32)).tolist() == [[0.5, 0.5, 0.0]]
