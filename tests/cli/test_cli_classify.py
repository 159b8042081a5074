from __future__ import annotations

import csv
import importlib
import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nybble.cli.inputs import split


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
    # The list of labels beside them is not a photo.
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
        result = run("classify", missing)
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


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_lines_and_tables_for_programs(run: Any, engine: SimpleNamespace, model: Path, photos: Path) -> None:
    expected = json.loads(run("classify", model, photos, "--top", 2, "--json").stdout)["photos"]
    lines = run("classify", model, photos, "--top", 2, "--format", "jsonl").stdout.splitlines()
    assert [json.loads(line) for line in lines] == expected
    found = rows(run("classify", model, photos, "--top", 2, "--format", "csv").stdout)
    assert [row["rank"] for row in found] == ["1", "2"] * 7
    for row, prediction in zip(found, [each for photo in expected for each in photo["predictions"]], strict=True):
        assert (int(row["index"]), row["name"]) == (prediction["index"], prediction["name"])
        assert float(row["score"]) == pytest.approx(prediction["score"], abs=1e-6)


@pytest.mark.parametrize("suffix", ["json", "jsonl", "csv"])
def test_a_file_of_answers(
    run: Any, engine: SimpleNamespace, model: Path, photos: Path, tmp_path: Path, suffix: str
) -> None:
    file = tmp_path / f"answers.{suffix}"
    printed = run("classify", model, photos, "--format", suffix).stdout
    for _ in range(2):  # The second time it replaces the first file.
        result = run("classify", model, photos, "--output", file)
        assert (result.exit_code, result.stdout) == (0, ""), result.output
        assert file.read_text() == printed
    photo = tmp_path / f"photo.{suffix}"
    photo.write_bytes(b"\xff\xd8 precious")
    result = run("classify", model, photos, "-o", photo)
    assert result.exit_code == 3
    assert "is not a file of answers" in result.stderr
    assert photo.read_bytes() == b"\xff\xd8 precious"


def test_nothing_half_written(run: Any, engine: SimpleNamespace, model: Path, photos: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no photo")
    result = run("classify", model, broken, "-o", tmp_path / "answers.csv")
    assert result.exit_code == 3
    assert [path.name for path in tmp_path.iterdir() if path.name != "cache"] == ["broken.jpg"]


def test_bad_files_are_skipped(run: Any, engine: SimpleNamespace, model: Path, photos: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no photo")
    for missing in (tmp_path / "none.jpg", tmp_path / "*.gif"):
        result = run("classify", model, missing, photos / "0.png", broken, photos / "1.png", "--format", "jsonl")
        assert result.exit_code == 4
        files = [json.loads(line)["file"] for line in result.stdout.splitlines()]
        assert files == [str(photos / "0.png"), str(photos / "1.png")]
        first, second = result.stderr.splitlines()
        assert first.startswith(f"warning: {missing}: ") and first.endswith("; left out")
        assert second.startswith(f"warning: {broken}: ") and second.endswith("; left out")


def test_patterns(run: Any, engine: SimpleNamespace, model: Path, photos: Path, tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    for index in range(3):
        (deep.parents[index % 2] / f"{index}.png").write_bytes((photos / f"{index}.png").read_bytes())

    def files(pattern: str) -> list[str]:
        lines = run("classify", model, f"{tmp_path}/{pattern}", "--format", "jsonl").stdout.splitlines()
        return [str(Path(json.loads(line)["file"]).relative_to(tmp_path)) for line in lines]

    assert files("**/*.png") == ["1.png", "a/0.png", "a/2.png"]
    assert files("a/[0-1].png") == ["a/0.png"]
    assert files("a*") == ["a/0.png", "a/2.png"]
    # A file of that name is that file.
    (tmp_path / "[x].png").write_bytes((photos / "0.png").read_bytes())
    assert files("[x].png") == ["[x].png"]
    result = run("classify", model, f"{tmp_path}/*.gif")
    assert result.exit_code == 3
    assert result.stderr == f"error: {tmp_path}/*.gif: no file fits this pattern\n"


def test_standard_input(nybble_process: Any, model: Path, photos: Path) -> None:
    with (photos / "0.png").open("rb") as photo:
        found = nybble_process("classify", model, "-", "--format", "jsonl", stdin=photo)
    named = nybble_process("classify", model, photos / "0.png", "--format", "jsonl")
    assert {**json.loads(found.stdout), "file": ""} == {**json.loads(named.stdout), "file": ""}
    assert json.loads(found.stdout)["file"] == "-"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--json", "--format", "csv"), "--json and --format csv exclude each other"),
        (("--format", "xml"), "--format xml: choose from table, json, jsonl, csv"),
        (("--format", "table", "-o", "x.csv"), "--format table: choose from json, jsonl, csv"),
        (("-o", "x.txt"), "x.txt: its suffix is that of no format; add --format json or jsonl or csv"),
    ],
)
def test_formats_that_do_not_fit(run: Any, model: Path, options: tuple[str, ...], expected: str) -> None:
    result = run("classify", model, "x.png", *options)
    assert (result.exit_code, result.stderr) == (2, f"error: {expected}\n")


def test_answers_come_as_photos_are_classified(
    run: Any, engine: SimpleNamespace, model: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines of the first photos are written before the last ones are decoded."""
    from nybble.cli import rows as writing

    order: list[str] = []
    written = writing.json_line
    monkeypatch.setattr(
        "nybble.cli.classify.json_line", lambda value: order.append("line") or written(value), raising=True
    )
    decode = importlib.import_module("nybble.cli.classify")._decoded
    monkeypatch.setattr("nybble.cli.classify._decoded", lambda *given: order.append("photo") or decode(*given))
    run("classify", model, *[photos / "0.png"] * 20, "--format", "jsonl")
    assert order.index("line") < order.index("photo") + 9
    assert order.count("photo") == order.count("line") == 20
