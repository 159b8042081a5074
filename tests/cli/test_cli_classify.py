from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nybble.cli.classify import split


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


def test_without_model(
    run: Any, engine: SimpleNamespace, model: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NYBBLE_MODEL", str(model))
    named = run("classify", model, photos / "0.png", photos / "1.png", "--json")
    result = run("classify", photos / "0.png", photos / "1.png", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == json.loads(named.stdout)


def test_which_arguments_are_photos(model: Path, photos: Path) -> None:
    photo, other = photos / "0.png", photos / "1.png"
    assert split([str(photo), str(other)]) == (None, [photo, other])
    assert split(["missing.jpg"]) == (None, [Path("missing.jpg")])
    assert split([str(model), str(photo)]) == (str(model), [photo])
    for name in ("efficientnet-lite0", "nvidia-resnet50-int4"):
        assert split([name, str(photo)]) == (name, [photo])
    assert split(["mistyped", str(photo)]) == ("mistyped", [photo])


def test_a_folder_of_photos(
    run: Any, engine: SimpleNamespace, model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = json.loads(run("classify", model, photos, "--json").stdout)
    # The list of labels beside them is no photo.
    assert [photo["file"] for photo in named["photos"]] == [str(photos / f"{i}.png") for i in range(7)]
    monkeypatch.setenv("NYBBLE_MODEL", str(model))
    result = run("classify", photos, photos / "0.png", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["photos"] == [*named["photos"], named["photos"][0]]
    result = run("classify", tmp_path)
    assert result.exit_code == 3
    assert result.stderr == f"error: {tmp_path}: is not a model folder, and holds no photos\n"


def test_what_was_meant_is_asked(run: Any, model: Path, photos: Path) -> None:
    result = run("classify", model)
    assert result.exit_code == 2
    for missing in (photos / "none.jpg", "nope.jpg", "nope"):
        for rest in ((), (photos / "0.png",)):
            result = run("classify", missing, *rest)
            if missing == "nope" and rest:  # No name of a photo, so it is meant as a model.
                continue
            assert result.exit_code == 3
            assert result.stderr == f"error: {missing}: there is no such file\n"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("PHOTO", "efficientnet-lite0"), "efficientnet-lite0 is a model; name it before the photos"),
        (("PHOTO", "MODEL"), "MODEL: is a model folder; name the model before the photos"),
        (("",), "an argument is empty; name photos, or folders of photos"),
        (("MODEL", ""), "an argument is empty; name photos, or folders of photos"),
    ],
)
def test_a_model_behind_photos_and_empty_arguments_are_wrong_usage(
    run: Any, model: Path, photos: Path, arguments: tuple[str, ...], expected: str
) -> None:
    places = {"PHOTO": str(photos / "0.png"), "MODEL": str(model)}
    result = run("classify", *(places.get(word, word) for word in arguments))
    assert result.exit_code == 2
    assert result.stderr == f"error: {expected.replace('MODEL', str(model))}\n"


def test_photos_that_come_with_nybble(run: Any, engine: SimpleNamespace, photos: Path) -> None:
    result = run("classify", "--example", "--json")
    assert result.exit_code == 0, result.stderr
    assert [Path(photo["file"]).name for photo in json.loads(result.stdout)["photos"]] == ["chelsea.png", "coffee.png"]
    result = run("classify", photos / "0.png", "--example", "--json")
    assert len(json.loads(result.stdout)["photos"]) == 3


def test_a_model_alone_is_asked_about(run: Any, model: Path, photos: Path) -> None:
    result = run("classify", model)
    assert result.exit_code == 2
    assert "is a model; name photos after it" in result.stderr
    result = run("classify", "mistyped", photos / "0.png")
    assert result.exit_code == 3
    assert "mistyped: there is no such folder" in result.stderr
    result = run("classify")
    assert result.exit_code == 2
    assert "IMAGE" in result.stderr
