"""Commands that take an ensemble for a model, those that refuse one, and ``nybble calibrate-ensemble``."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import nybble
from nybble.engine.ensemble import read_settings
from nybble.graph import write_graph
from nybble.synthetic import bottleneck_resnet

CLASSES, PHOTOS = 4, 24


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two networks, a cascade of them, photos labelled by one of the two, and a broken one."""
    path = tmp_path_factory.mktemp("ensemble")
    for number in (0, 1):
        write_graph(
            bottleneck_resnet(blocks=(1,), width=4, classes=CLASSES, image=32, seed=3 + number), path / f"net{number}"
        )
    (path / "both.toml").write_text(
        'format = "nybble-ensemble/1"\nkind = "cascade"\n'
        '[[member]]\nmodel = "net0"\ntemperature = 10000.0\nmargin_below = 0.6\n[[member]]\nmodel = "net1"\n'
    )
    random = np.random.default_rng(1)
    (path / "photos").mkdir()
    files = [f"{number:02}.png" for number in range(PHOTOS)]
    for file in files:
        Image.fromarray(random.integers(0, 256, (40, 36, 3), dtype=np.uint8)).save(path / "photos" / file)
    with nybble.load(path / "net1", threads=1) as engine:
        found = engine.classify([path / "photos" / file for file in files], top=1, exif=False)
    labels = [answer[0].label if number % 3 else number % CLASSES for number, answer in enumerate(found)]
    (path / "photos" / "broken.png").write_bytes(b"no photo")
    rows = [("file", "label"), *zip(files, labels, strict=True), ("broken.png", 0)]
    with (path / "photos" / "labels.csv").open("w", newline="") as file_of_labels:
        csv.writer(file_of_labels).writerows(rows)
    return path


def test_classify_and_evaluate_take_an_ensemble(run: Any, folder: Path) -> None:
    photo = folder / "photos" / "03.png"
    result = run("classify", folder / "both.toml", photo, "--json", "--top", "2")
    assert result.exit_code == 0, result.output
    with nybble.load(folder / "both.toml") as cascade:
        wanted = cascade.classify([photo], top=2)[0]
    said = json.loads(result.stdout)["photos"][0]["predictions"]
    assert [(entry["index"], entry["score"]) for entry in said] == [(best.label, best.score) for best in wanted]

    options = ("--images", folder / "photos", "--json", "--threads", "1")
    result = run("evaluate", folder / "both.toml", *options)
    assert result.exit_code == 4, result.output
    found = json.loads(result.stdout)
    assert found["images"] == PHOTOS
    assert [entry["model"] for entry in found["asked"]] == ["net0", "net1"]
    assert found["asked"][0]["share"] == 1
    by_reference = json.loads(run("evaluate", folder / "both.toml", *options[:-2], "--reference").stdout)
    assert [by_reference[name] for name in ("top1_right", "asked")] == [found[name] for name in ("top1_right", "asked")]


@pytest.mark.parametrize("command", ["inspect", "tune", "profile", "verify", "convert", "export"])
def test_commands_for_one_network_say_so(run: Any, folder: Path, tmp_path: Path, command: str) -> None:
    rest = {
        "convert": (tmp_path / "out", "--bits", "8"),
        "export": (tmp_path / "out.onnx",),
        "verify": ("--images", folder / "photos"),
    }.get(command, ())
    result = run(command, folder / "both.toml", *rest)
    assert (result.exit_code, result.stdout) == (3, "")
    assert "describes an ensemble, and this needs a single network; name a member" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_bench_measures_an_ensemble_beside_its_members(run: Any, folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    result = run("bench", folder / "both.toml", "--seconds", "0", "--batch", "2", "--output", file)
    assert result.exit_code == 0, result.output
    found = json.loads(file.read_text())
    assert {entry["contestant"] for entry in found["runs"]} == {"nybble both", "nybble 1: net0", "nybble 2: net1"}
    assert found["ratios"]["ensemble_vs_2: net1"]["best_batch"] > 0
    assert "ensemble_vs_1: net0" in result.stdout
    assert {entry["bits"] for entry in found["runs"]} == {4}
    assert (found["settings"]["bits"], found["settings"]["dense"], found["settings"]["fp32"]) == ([4], False, False)
    run("convert", folder / "net1", tmp_path / "net1", "--bits", "8")
    (tmp_path / "both.toml").write_text(
        (folder / "both.toml").read_text().replace('"net0"', f'"{folder / "net0"}"'), encoding="utf-8"
    )
    result = run("bench", tmp_path / "both.toml", "--seconds", "0", "--batch", "2", "--output", file)
    assert result.exit_code == 0, result.output
    bits = {entry["contestant"]: entry["bits"] for entry in json.loads(file.read_text())["runs"]}
    assert list(bits.values()) == [4, 4, 8]
    for option in ("--no-dense", "--no-fp32"):
        result = run("bench", folder / "both.toml", option)
        assert (result.exit_code, "--no-dense and --no-fp32" in " ".join(result.stderr.split())) == (2, True)
    result = run("bench", folder / "both.toml", "--against", "torch")
    assert result.exit_code == 2
    assert "is compared with its members only" in result.stderr


@pytest.mark.parametrize("kind", ["cascade", "mean"])
def test_an_ensemble_is_calibrated_drawn_and_reported(run: Any, folder: Path, tmp_path: Path, kind: str) -> None:
    out, report = tmp_path / "found.toml", tmp_path / "report"
    members = (folder / "net0", folder / "net1")
    options = ("--images", folder / "photos", "--out", out, "--report", report, "--kind", kind, "--folds", "3")
    said = run("calibrate-ensemble", *members, *options, "--defer", "0.25")
    assert said.exit_code == 4, said.output
    settings = read_settings(out)
    assert settings.kind == kind
    assert (settings.member[0].margin_below is not None) == (kind == "cascade")
    with nybble.load(out) as found:
        assert len(found.classify([folder / "photos" / "03.png"])) == 1

    result = json.loads((report / "ensemble.json").read_text())
    assert result["images"] == PHOTOS
    with (folder / "photos" / "labels.csv").open(newline="") as file:
        labels = {folder / "photos" / row["file"]: int(row["label"]) for row in list(csv.DictReader(file))[:PHOTOS]}
    for member, path in zip(result["members"], members, strict=True):
        with nybble.load(path, threads=1) as engine:
            answers = engine.classify(list(labels), top=1, exif=False)
        right = [answer[0].label == label for answer, label in zip(answers, labels.values(), strict=True)]
        assert member["top1_right"] == sum(right)
    if kind == "cascade":
        # Random networks are so sure of everything that nothing can be deferred.
        assert {point["deferred"] for point in result["points"]} == {0}
        assert result["points"][0]["top1_right"] == result["members"][0]["top1_right"]
    assert (report / "ensemble.png").read_bytes().startswith(b"\x89PNG")
    assert "mean of all" in said.stdout
    said = run("report", report, "--out", tmp_path / "page.html")
    assert said.exit_code == 0, said.output
    page = (tmp_path / "page.html").read_text()
    assert "Accuracy against cost" in page


def test_wrong_usage_of_calibrate_ensemble(run: Any, folder: Path, tmp_path: Path) -> None:
    options = ("--images", folder / "photos", "--out", tmp_path / "it.toml")
    for members, message in (
        ([folder / "net0"], "at least two members"),
        ([folder / "both.toml", folder / "net0"], "needs a single network"),
    ):
        result = run("calibrate-ensemble", *members, *options)
        assert result.exit_code in (2, 3)
        assert message in result.output
    result = run("calibrate-ensemble", folder / "net0", folder / "net1", *options, "--folds", "20")
    assert result.exit_code == 3
    assert "24 photos are too few for 20 folds" in result.stderr
    for shares, text in (((0.1, 0.2), "must not increase"), ((0.3, 0.2, 0.1), "3 shares of photos for 2 members")):
        defer = [word for share in shares for word in ("--defer", share)]
        result = run("calibrate-ensemble", *[folder / "net0"] * 3, *options, *defer)
        assert result.exit_code == 3
        assert text in result.stderr
    assert not (tmp_path / "it.toml").exists()


@pytest.mark.parametrize("kind", ["cascade", "mean"])
def test_three_members_are_calibrated(run: Any, folder: Path, tmp_path: Path, kind: str) -> None:
    """A third member gets half of the photos of the second one, unless it is said."""
    out, report = tmp_path / "three.toml", tmp_path / "report"
    members = [folder / "net0", folder / "net1", folder / "net0"]
    options = ("--images", folder / "photos", "--out", out, "--kind", kind, "--folds", "3", "--report", report)
    said = run("calibrate-ensemble", *members, *options, "--defer", "0.5")
    assert said.exit_code == 4, said.output
    settings = read_settings(out)
    assert [member.margin_below is not None for member in settings.member] == [kind == "cascade"] * 2 + [False]
    result = json.loads((report / "ensemble.json").read_text())
    assert len(result["members"]) == 3
    with nybble.load(out) as found:
        assert found.kind == kind
        assert len(found.classify([folder / "photos" / "03.png"])) == 1
    if kind == "cascade":
        assert "Shares of the photos that go to further members: 50.0%, 25.0%." in out.read_text()
        assert len(result["chosen"]["asked"]) == 3
    assert run("report", report, "--out", tmp_path / "page.html").exit_code == 0
