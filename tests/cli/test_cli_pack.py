from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import nybble
import nybble.models
from nybble.catalog import CARD, listed
from nybble.published import available


def test_a_packed_model_stands_for_its_folder(
    run: Any, engine: SimpleNamespace, model: Path, photos: Path, tmp_path: Path
) -> None:
    file = tmp_path / "packed.zip"
    result = run("pack", model, file, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {"model": str(model), "file": str(file), "bytes": file.stat().st_size}
    expected = json.loads(run("classify", model, photos, "--json").stdout)
    found = json.loads(run("classify", file, photos, "--json").stdout)
    assert {**found, "model": ""} == {**expected, "model": ""}
    assert "thing" in run("classify", file, photos / "0.png").stdout
    for arguments in (("inspect", file), ("verify", file, "--images", photos, "--limit", 1)):
        assert run(*arguments).exit_code == 0


def test_what_is_not_packed(run: Any, model: Path, tmp_path: Path) -> None:
    file = tmp_path / "packed.zip"
    assert run("pack", model, file).exit_code == 0
    again = run("pack", file, tmp_path / "again.zip")
    assert again.exit_code == 2
    assert again.stderr == f"error: {file}: is a file already; name a model folder\n"
    text = tmp_path / "notes"
    text.write_text("notes")
    result = run("pack", model, text)
    assert result.exit_code == 3
    assert "is not a packed model" in result.stderr
    assert text.read_text() == "notes"


def test_list_of_models(run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    result = run("models")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    rows = {line.split()[0]: line for line in lines[2:7]}
    assert list(rows) == nybble.models.names()
    assert "bundled" in rows["resnet50"] and "88.6%" in rows["resnet50"] and "Apache-2.0" in rows["resnet50"]
    assert "nybble fetch" in rows["nvidia-resnet50-int4"]
    assert max(map(len, lines[:7])) <= 80
    found = json.loads(run("models", "--json").stdout)
    assert found["cache"] == str(tmp_path / "cache")
    assert [entry["name"] for entry in found["models"]] == nybble.models.names()
    assert found["models"][0]["top1"] == {"share": 0.886, "right": 443, "of": 500, "photos": "photos-500"}


def test_models_in_the_cache(run: Any, tmp_path: Path) -> None:
    for name in (available()[0], "older"):
        (tmp_path / "cache" / name / "model").mkdir(parents=True)
        (tmp_path / "cache" / name / "model" / "model").write_bytes(b"12345")
    (tmp_path / "cache" / "tuned").mkdir()
    found = {entry["name"]: entry for entry in json.loads(run("models", "--json").stdout)["models"]}
    assert found[available()[0]]["path"] == str(tmp_path / "cache" / available()[0])
    assert (found["older"]["source"], found["older"]["size"], found["older"]["top1"]) == ("cache", 5, None)
    assert list(found) == [*nybble.models.names(), "older"]


def test_cards_say_what_the_readme_says() -> None:
    """The list is as true as the card that it shortens."""
    for model in (entry for entry in listed() if entry.source == "bundled"):
        assert model.path is not None
        if model.top1 is None:
            assert model.figure is not None
            text = (model.path / "README.md").read_text()
            assert f"{model.figure.metric} {100 * model.figure.share:.2f}" in text and model.figure.photos in text
            continue
        folder = model.path if model.path.is_dir() else model.path.parent
        text = (folder / "README.md").read_text()
        top1 = model.top1
        assert f"{top1.right / top1.of:.1%} ({top1.right} of {top1.of};".replace("%", " %") in text
        assert (folder / CARD).is_file()
    readme = (Path(__file__).parents[2] / "models" / "resnet50" / "README.md").read_text()
    assert "89.8 % (449 of 500;" in readme


def test_packed_models_are_served_and_are_members(run: Any, model: Path, photos: Path, tmp_path: Path) -> None:
    from nybble.cli.serve import _named
    from nybble.images.given import each

    file = tmp_path / "packed.zip"
    assert run("pack", model, file).exit_code == 0
    assert _named([str(file)]) == {"packed": str(file)}
    ensemble = tmp_path / "both.toml"
    member = '[[member]]\nmodel = "{}"\n'
    members = member.format("packed.zip") + member.format(model)
    ensemble.write_text('format = "nybble-ensemble/1"\nkind = "mean"\n' + members)
    photo = photos / "0.png"
    with nybble.load(ensemble, threads=1) as both, nybble.load(file, threads=1) as alone:
        (found,), (expected,) = (engine.classify(each(photo), top=1) for engine in (both, alone))
    assert found[0].label == expected[0].label


def test_the_bundled_detector(run: Any, tmp_path: Path) -> None:
    found = nybble.models.bundled(nybble.models.DETECTOR)
    assert found is not None
    assert sum(file.stat().st_size for file in (found / "model").rglob("*") if file.is_file()) < 300_000
    result = run("predict", "fastestdet", "--example", "--save", tmp_path / "drawn", "--json")
    assert result.exit_code == 0, result.output
    answers = json.loads(result.stdout)
    names = [{box["name"] for box in photo["boxes"]} for photo in answers["photos"]]
    assert "cat" in names[0] and "cup" in names[1]
    assert len(list((tmp_path / "drawn").iterdir())) == 2
