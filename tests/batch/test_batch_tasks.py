"""Jobs of networks that do not classify: one answer per photo, as ``nybble predict --json`` has it."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from nybble.cli import app
from nybble.engine import load
from nybble.graph import Preprocessing
from tiny_tasks import encoded, picture, write_network

parquet = pytest.importorskip("pyarrow.parquet")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "photos"
    made.mkdir()
    for number, size in enumerate(((50, 40), (20, 70), (32, 24))):
        (made / f"{number}.png").write_bytes(encoded(picture(number, size)))
    (made / "broken.png").write_bytes(b"no photo")
    return made


def rows(out: Path) -> list[dict[str, Any]]:
    (part,) = out.glob("part-*")
    if part.suffix == ".parquet":
        found = parquet.read_table(part).to_pylist()
    elif part.suffix == ".csv":
        found = list(csv.DictReader(part.read_text().splitlines()))
    else:
        return [json.loads(line) for line in part.read_text().splitlines()]
    return [{**row, "answer": json.loads(row["answer"]) if row["answer"] else None} for row in found]


@pytest.mark.parametrize("kind", ["detect", "segment", "restore", "embed"])
@pytest.mark.parametrize("form", ["parquet", "jsonl", "csv"])
def test_rows_hold_the_answers(tmp_path: Path, folder: Path, kind: str, form: str) -> None:
    fit = Preprocessing(crop=(24, 32), fit="none" if kind == "restore" else "stretch")
    model = write_network(tmp_path / "model", kind, fit)
    given = ["batch", str(model), str(folder), "--out", str(tmp_path / "out"), "--format", form, "--threads", "1"]
    done = CliRunner().invoke(app, given)
    assert done.exit_code == 4, done.output
    found = {Path(row["file"]).name: row for row in rows(tmp_path / "out")}
    assert found["broken.png"]["error"] and found["broken.png"]["answer"] is None
    with load(model, threads=1) as engine:
        for name in ("0.png", "1.png", "2.png"):
            assert not found[name]["error"]
            assert found[name]["answer"] == json.loads(json.dumps(engine.predict(folder / name).to_json()))
    resumed = CliRunner().invoke(app, [*given, "--resume"])
    assert "0 done in this run" in resumed.output


def test_another_threshold_is_another_job(tmp_path: Path, folder: Path) -> None:
    model = write_network(tmp_path / "model", "detect")
    given = ["batch", str(model), str(folder), "--out", str(tmp_path / "out"), "--format", "jsonl", "--threads", "1"]
    assert CliRunner().invoke(app, given).exit_code == 4
    task = model / "task"
    task.write_text(task.read_text().replace("score_threshold=0.3", "score_threshold=0.4"))
    again = CliRunner().invoke(app, [*given, "--resume"])
    assert again.exit_code != 0 and "is of another model" in again.output


def test_what_there_is_not_is_refused_in_one_line(tmp_path: Path, folder: Path) -> None:
    for kind, more, message in (
        ("segment", ["--embeddings", "--format", "jsonl"], "only networks that classify have them"),
        ("none", [], "the model has no file `task`"),
    ):
        model = write_network(tmp_path / kind, kind)
        done = CliRunner().invoke(app, ["batch", str(model), str(folder), "--out", str(tmp_path / "out"), *more])
        assert done.exit_code != 0 and message in " ".join(done.output.split())
        assert not (tmp_path / "out").exists()
