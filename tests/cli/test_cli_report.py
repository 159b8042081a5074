"""``nybble report``: from what other commands print to a page, and its errors."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

Run = Callable[..., Any]


@pytest.fixture
def results(tmp_path: Path, run: Run, nybble_process: Run, engine: SimpleNamespace, model: Path, photos: Path) -> Path:
    """What ``evaluate`` and ``profile`` print, in files."""
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "one.json").write_text(run("evaluate", model, "--images", photos, "--json").stdout)
    profiled = nybble_process("profile", model, "--limit", 1, "--runs", 1, "--threads", 1, "--json")
    (folder / "two.json").write_text(profiled.stdout)
    (folder / "notes.txt").write_text("of somebody")
    return folder


def test_what_commands_print_becomes_a_page(run: Run, results: Path, tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    out, figures = tmp_path / "page.html", tmp_path / "figures"
    done = run("report", results, "--out", out, "--figures", figures)
    assert done.exit_code == 0, done.output
    assert "results: 2 files of nybble" in done.stdout
    assert "1 file left out: notes.txt" in done.stdout
    told = json.loads(run("report", results, "--out", out, "--json").stdout)
    assert told["sources"] == [{"label": "results", "records": 2, "left_out": ["notes.txt"]}]
    assert (told["page"], told["figures"]) == (str(out), [])
    assert f"page     {out}" in done.stdout
    page = out.read_text()
    evaluated = json.loads((results / "one.json").read_text())
    assert f'<data value="{evaluated["top1"]}">' in page
    profiled = json.loads((results / "two.json").read_text())
    for layer in profiled["layers"]:
        assert f'<data value="{layer["seconds"]}">' in page
    assert any(layer["bytes"] for layer in profiled["layers"])
    assert {"accuracy.csv", "accuracy.png", "accuracy.svg", "layers.csv"} <= {path.name for path in figures.iterdir()}


def test_one_line_says_what_is_wrong(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    (tmp_path / "empty").mkdir()
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "bench.json").write_text('{"runs"')
    for arguments, message in (
        ([tmp_path / "empty"], "empty: has nothing to report on"),
        ([tmp_path / "nowhere"], "nowhere: is not a folder"),
        ([tmp_path / "cut"], "bench.json: is not JSON"),
        ([tmp_path / "cut", "--out", tmp_path / "no" / "page.html"], "there is no folder"),
        ([tmp_path / "cut", "--out", tmp_path / "cut"], "is a folder; name a file"),
        ([tmp_path / "cut", "--figures", tmp_path / "cut" / "bench.json"], "and is not a folder"),
    ):
        done = run("report", *arguments)
        assert done.exit_code == 3
        assert done.stdout == ""
        (line,) = done.stderr.splitlines()
        assert line.startswith("error: ")
        assert message in line
    assert not (tmp_path / "report.html").exists()
    assert run("report").exit_code == 2


def test_a_missing_package_is_named(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nybble.report.report_page.has_jinja", lambda: False)
    done = run("report", tmp_path)
    assert done.exit_code == 3
    assert "pip install 'nybble[report]'" in done.stderr
