from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nybble import models
from nybble.demo import ANSWERS, Answer, Form, PhotoAnswers, Recorded, write_answers
from nybble.demo.photos import PHOTOS, fingerprint, samples


@pytest.fixture
def tiny(engine: SimpleNamespace) -> SimpleNamespace:
    """Engines that are the reference."""
    pytest.importorskip("jinja2")
    return engine


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "page.html"


def test_photos_answers_and_speeds(run: Any, tiny: SimpleNamespace, model: Path, out: Path) -> None:
    result = run("demo", "--model", model, "--seconds", 0, "--threads", 1, "--out", out)
    assert result.exit_code == 0, result.output
    assert f"model    {model} (the one asked for)" in result.stdout
    assert re.search(r"chelsea\.png +thing \d \d+\.\d%", result.stdout)
    assert "a cup of coffee" in result.stdout
    # Classes that are not ImageNet's can be neither right nor wrong.
    assert not re.search(r"right|WRONG", result.stdout)
    assert "same     answer as 8-bit on " in result.stdout
    for bits in ("4-bit", "8-bit"):
        assert re.search(rf"{model}, {bits} +1 +\d+\.\d +median of 5 interleaved runs", result.stdout)
    assert result.stdout.endswith(f"page     {out}\n")
    assert out.read_text(encoding="utf-8").count("<img ") == len(samples())
    assert [made.threads for made in tiny.made] == [1, 1]


def test_json_with_recorded_answers(
    run: Any, tiny: SimpleNamespace, model: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = {"float": [Answer(index=9, name="thing 9", score=0.75)]}
    photos = {sample.file: PhotoAnswers(sha256=fingerprint(path), answers=answers) for sample, path in samples()}
    photos["coffee.png"] = PhotoAnswers(sha256="0" * 64, answers=answers)
    recorded = Recorded(
        network="tiny",
        made="2026-11-26",
        command="python record.py",
        software={},
        forms={"float": Form(label="float", how="torch", bytes=4)},
        photos=photos,
    )
    try:
        write_answers(model / ANSWERS, recorded)
        result = run("demo", "--model", model / "model", "--seconds", 0, "--out", out, "--json")
    finally:
        (model / ANSWERS).unlink()
    assert (result.exit_code, result.stderr) == (0, "")
    report = json.loads(result.stdout)
    assert report["page"] == str(out)
    (network,) = report["networks"]
    name = str(model / "model")
    assert [(form["key"], form["label"], form["recorded"]) for form in network["forms"]] == [
        (f"{name} float", "float", True),
        (f"{name} int8", "8-bit", False),
        (f"{name} now", "4-bit", False),
    ]
    by_file = {photo["file"]: photo["answers"] for photo in report["photos"]}
    assert by_file["chelsea.png"][f"{name} float"]["predictions"] == [{"index": 9, "name": "thing 9", "score": 0.75}]
    assert len(by_file["chelsea.png"][f"{name} now"]["predictions"]) == 3
    assert f"{name} float" not in by_file["coffee.png"]
    (note,) = report["notes"]
    assert note.startswith(f"{name}: coffee.png: answers were recorded for another version of this photo")
    right, total = network["same_class"][f"{name} float"]
    assert total == len(samples()) - 1
    assert 0 <= right <= total
    assert network["right"] is None
    assert len(report["speeds"]) == 4
    assert {speed["rounds"] for speed in report["speeds"]} == {5}


def test_the_model_of_the_environment(
    run: Any, tiny: SimpleNamespace, model: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NYBBLE_MODEL", str(model))
    result = run("demo", "--seconds", 0, "--out", out)
    assert result.exit_code == 0, result.output
    assert f"model    {model} (named by NYBBLE_MODEL)" in result.stdout


def test_what_is_missing_is_said(run: Any, model: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "bundled", lambda name: None)
    result = run("demo", "--out", out)
    assert (result.exit_code, result.stdout) == (3, "")
    assert "efficientnet-lite0 is missing from this installation" in result.stderr
    monkeypatch.setattr("nybble.report.demo_page.has_jinja", lambda: False)
    result = run("demo", "--model", model, "--out", out)
    assert (result.exit_code, result.stdout) == (3, "")
    assert "pip install 'nybble[demo]'" in result.stderr
    assert not out.exists()


def test_two_photos_need_no_other_package(
    run: Any, tiny: SimpleNamespace, model: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nybble.demo.photos.find_spec", lambda name: None)
    result = run("demo", "--model", model, "--seconds", 0, "--out", out, "--json")
    assert result.exit_code == 0, result.output
    assert [photo["file"] for photo in json.loads(result.stdout)["photos"]] == ["chelsea.png", "coffee.png"]


@pytest.mark.parametrize(("name", "text"), [("no/page.html", "there is no folder"), ("", "is a folder; name a file")])
def test_a_page_that_cannot_be_written_is_refused_at_once(run: Any, tmp_path: Path, name: str, text: str) -> None:
    result = run("demo", "--out", tmp_path / name)
    assert (result.exit_code, result.stdout) == (3, "")
    assert text in result.stderr


def test_sample_photos_are_told_apart() -> None:
    assert len({sample.file for sample in PHOTOS}) == len(PHOTOS)
    assert all(0 <= label < 1000 for sample in PHOTOS for label in sample.classes)
