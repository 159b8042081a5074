"""``nybble profile`` and ``nybble tune``, with the engine itself."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from nybble.backends.cpu import tuned
from nybble.backends.cpu.key import make_key
from nybble.graph import read_graph


@pytest.fixture(autouse=True)
def enabled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NYBBLE_TUNED")


def test_profile_table(run: Any, model: Path, photos: Path) -> None:
    result = run("profile", model, "--images", photos, "--limit", 2, "--runs", 2, "--threads", 1)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    names = [line.split()[0] for line in lines[2:] if line.strip()]
    assert names.index("conv1") < names.index("layer1_0_conv1") < names.index("fc") < names.index("total")
    assert "2 runs of each of 2 inputs" in result.stdout
    assert "not tuned" in result.stdout
    assert "noise" not in result.stdout


def test_profile_json_and_trace(run: Any, model: Path, photos: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace.json"
    result = run(
        "profile", model, "--images", photos, "--limit", 3, "--runs", 1, "--threads", 2, "--trace", trace, "--json"
    )
    report = json.loads(result.stdout)
    assert sum(layer["share"] for layer in report["layers"]) == pytest.approx(1)
    assert report["macs"] == json.loads(run("inspect", model, "--json").stdout)["totals"]["macs"]
    assert (report["images"], report["threads"], report["tuned"]) == (3, 2, False)
    kernel = next(layer["kernel"] for layer in report["layers"] if layer["head"] == "conv1")
    assert kernel.keys() >= {"method", "block_outputs", "tile_pixels", "visit_bytes", "list_block"}
    events = json.loads(trace.read_text())["traceEvents"]
    assert sum(event["ph"] == "X" for event in events) == 3 * len(report["layers"])
    assert [entry.name for entry in tmp_path.iterdir()] == ["trace.json"]


def test_profile_without_photos_says_so(run: Any, model: Path) -> None:
    assert "noise" in run("profile", model, "--limit", 1, "--runs", 1).stdout
    assert json.loads(run("profile", model, "--limit", 1, "--runs", 1, "--json").stdout)["inputs"] == "noise"


def test_profile_asks_for_a_folder_first(run: Any, model: Path, tmp_path: Path) -> None:
    result = run("profile", model, "--trace", tmp_path / "none" / "trace.json")
    assert (result.exit_code, result.stdout) == (3, "")
    assert "there is no folder" in result.stderr


def test_tune_then_use(run: Any, model: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = json.loads(run("tune", model, "--images", photos, "--seconds", 1, "--threads", 1, "--json").stdout)
    assert Path(report["file"]).parent == tuned.folder()
    assert (report["images"], report["threads"]) == (7, 1)
    before, after = report["non_zero_pair_shares"]
    assert 0 < after <= before < 1
    assert report["kernels"].keys() >= {"quantize1", "fc"}

    def is_tuned(threads: int) -> bool:
        found = run("profile", model, "--limit", 1, "--runs", 1, "--threads", threads, "--json")
        return bool(json.loads(found.stdout)["tuned"])

    assert is_tuned(1)
    assert not is_tuned(2)
    result = run("verify", model, "--images", photos, "--layers", "--threads", 1, "--json")
    assert json.loads(result.stdout)["equal"]
    monkeypatch.setenv("NYBBLE_TUNED", "0")
    assert not is_tuned(1)


def test_tune_keeps_what_was_stored(run: Any, model: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    search = importlib.import_module("nybble.backends.cpu.tune")
    arguments = ("tune", model, "--images", photos, "--seconds", 1, "--threads", 1)
    first = json.loads(run(*arguments, "--json").stdout)
    assert first["against_stored"] is None and first["chosen"] != "stored"
    file = Path(first["file"])
    before = file.read_bytes()

    def against(*quartiles: float) -> None:
        monkeypatch.setattr(search, "_against", lambda *_: search.Against(quartiles[1], quartiles[0], quartiles[2]))

    against(0.99, 1.02, 1.1)
    again = json.loads(run(*arguments, "--json").stdout)
    assert again["chosen"] == "stored" and again["file"] == str(file)
    assert again["against_stored"] == {"median": 1.02, "low": 0.99, "high": 1.1}
    printed = run(*arguments).stdout
    assert "1.020 x as fast as what was stored before (quartiles 0.990 to 1.100)" in printed
    assert "kept: what was stored before; nothing new is faster by more than the spread" in printed
    assert file.read_bytes() == before
    file.write_text(json.dumps(json.loads(before), indent=1))
    against(1.01, 1.02, 1.1)
    printed = run(*arguments).stdout
    assert "replacing what was stored before, in" in printed
    assert file.read_text().count("\n") == 1


def test_tune_without_photos_says_so(run: Any, model: Path) -> None:
    result = run("tune", model, "--limit", 2, "--seconds", 1, "--threads", 1)
    assert result.exit_code == 0, result.output
    assert "seeded noise" in result.stdout
    assert "channel pairs" not in result.stdout
    (file,) = tuned.folder().iterdir()
    assert str(file) in result.stdout.replace("\n", "")


@pytest.mark.filterwarnings("default")
def test_a_damaged_file_is_one_line(run: Any, model: Path, photos: Path) -> None:
    graph = read_graph(model)
    isa = json.loads(run("profile", model, "--limit", 1, "--runs", 1, "--json").stdout)["isa"]
    path = tuned.path_of(make_key(graph, isa, 1))
    path.parent.mkdir(parents=True)
    path.write_text("{")
    result = run("evaluate", model, "--images", photos, "--threads", 1)
    assert result.exit_code == 0, result.output
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith(f"warning: {path}: tuned choices are ignored: ")
