from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any


def test_table(run: Any, engine: SimpleNamespace, model: Path, photos: Path) -> None:
    result = run("classify", model, photos / "0.png", photos / "1.png", "--top", 2, "--threads", 1)
    assert result.exit_code == 0, result.output
    lines = [line for line in result.stdout.splitlines() if "thing " in line]
    assert len(lines) == 4
    assert "0.png" in lines[0]
    assert "1.png" in lines[2]
    assert engine.made[0].threads == 1


def test_json(run: Any, engine: SimpleNamespace, model: Path, photos: Path) -> None:
    result = run("classify", model / "model", photos / "0.png", "--json")
    assert result.stderr == ""
    report = json.loads(result.stdout)
    assert (report["model"], report["isa"], report["threads"]) == (str(model / "model"), "reference", 2)
    (photo,) = report["photos"]
    assert photo["file"] == str(photos / "0.png")
    scores = [prediction["score"] for prediction in photo["predictions"]]
    assert len(scores) == 5
    assert scores == sorted(scores, reverse=True)
    assert photo["predictions"][0]["name"] == f"thing {photo['predictions'][0]['index']}"
