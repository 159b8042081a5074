"""Every command takes every form of photos, leaves out those that cannot be decoded, and turns them if asked to."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import nybble
from nybble.bench import read_photos
from nybble.cli.exit_codes import ExitCode
from nybble.graph import read_graph
from nybble.images import ImageError, load_photo, network_classes

#: What each command is given besides --images, to be quick.
COMMANDS: dict[str, tuple[object, ...]] = {
    "evaluate": (),
    "verify": (),
    "profile": ("--runs", 1),
    "tune": ("--seconds", 1),
}


def rows_of(photos: Path) -> list[tuple[str, int]]:
    with (photos / "labels.csv").open(newline="") as lines:
        return [(row["file"], int(row["label"])) for row in csv.DictReader(lines)]


def as_list(photos: Path, folder: Path, line: str) -> Path:
    text = "".join(line.format(file=photos / file, label=label) for file, label in rows_of(photos))
    (folder / "list.txt").write_text(text)
    return folder / "list.txt"


def as_folders(photos: Path, folder: Path) -> Path:
    for file, label in rows_of(photos):
        place = folder / f"thing {label}"
        place.mkdir(exist_ok=True)
        shutil.copy(photos / file, place)
    return folder


def as_names(photos: Path, folder: Path) -> Path:
    lines = [f"{file},thing {label}" for file, label in rows_of(photos)]
    for file, _ in rows_of(photos):
        shutil.copy(photos / file, folder)
    (folder / "labels.csv").write_text("\n".join(["file,label", *lines]))
    return folder


def unlabelled(photos: Path, folder: Path) -> Path:
    for file, _ in rows_of(photos):
        shutil.copy(photos / file, folder)
    return folder


LABELLED: dict[str, Callable[[Path, Path], Path]] = {
    "labels.csv": lambda photos, _: photos,
    "names": as_names,
    "folders": as_folders,
    "list": lambda photos, folder: as_list(photos, folder, "{file} {label}\n"),
    "list of names": lambda photos, folder: as_list(photos, folder, "{file}\tthing {label}\n"),
}
UNLABELLED: dict[str, Callable[[Path, Path], Path]] = {
    "folder": unlabelled,
    "list without labels": lambda photos, folder: as_list(photos, folder, "{file}\n"),
}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    folder = tmp_path / "place"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("form", LABELLED)
def test_accuracy_is_the_same_in_every_form(run: Any, model: Path, photos: Path, place: Path, form: str) -> None:
    found = run("evaluate", model, "--images", LABELLED[form](photos, place), "--json")
    assert found.exit_code == 0, found.output
    report = json.loads(found.stdout)
    assert (report["top1_right"], report["top5_right"], report["images"]) == (5, 6, 7)
    assert (report["left_out"], report["exif"]) == ([], False)


@pytest.mark.parametrize("form", UNLABELLED)
def test_accuracy_needs_labels(run: Any, model: Path, photos: Path, place: Path, form: str) -> None:
    found = run("evaluate", model, "--images", UNLABELLED[form](photos, place))
    assert found.exit_code not in (0, ExitCode.LEFT_OUT)
    assert found.stderr.count("\n") == 1
    assert "has no label, and accuracy needs one" in found.stderr and "labels.csv" in found.stderr


def test_class_folders_that_are_not_the_networks(run: Any, model: Path, photos: Path, place: Path) -> None:
    as_folders(photos, place)
    next(place.iterdir()).rename(place / "thign")
    found = run("evaluate", model, "--images", place)
    assert "'thign' is not a class of the network, although others are" in found.stderr
    # What needs no labels does not mind.
    assert run("verify", model, "--images", place).exit_code == 0
    shutil.rmtree(place)
    for name in "ab":
        (place / name).mkdir(parents=True)
        shutil.copy(photos / "0.png", place / name)
    found = run("evaluate", model, "--images", place)
    assert "has 2 classes (a, b), but the network has 10 classes" in found.stderr


@pytest.mark.parametrize("form", [*LABELLED, *UNLABELLED])
@pytest.mark.parametrize("command", ["verify", "profile"])
def test_other_commands_take_every_form(
    run: Any, model: Path, photos: Path, place: Path, command: str, form: str
) -> None:
    images = (LABELLED | UNLABELLED)[form](photos, place)
    found = run(command, model, "--images", images, "--limit", 2, *COMMANDS[command], "--json")
    assert found.exit_code == 0, found.output
    report = json.loads(found.stdout)
    assert (report["images"], report["left_out"], report["exif"]) == (2, [], False)


def damaged(photos: Path, folder: Path) -> Path:
    """The labelled photos, two of them damaged."""
    shutil.copytree(photos, folder, dirs_exist_ok=True)
    whole = (folder / "1.png").read_bytes()
    (folder / "1.png").write_bytes(whole[: len(whole) // 2])
    (folder / "3.png").write_bytes(b"")
    return folder


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("command", COMMANDS)
def test_bad_photos_are_left_out(run: Any, model: Path, photos: Path, place: Path, command: str, as_json: bool) -> None:
    damaged(photos, place)
    found = run(command, model, "--images", place, *COMMANDS[command], *(["--json"] if as_json else []))
    assert found.exit_code == ExitCode.LEFT_OUT, found.output
    lines = found.stderr.splitlines()
    assert [line.split(":")[:2] for line in lines] == [["warning", " 1.png"], ["warning", " 3.png"]]
    if as_json:
        report = json.loads(found.stdout)
        assert report["images"] == 5
        assert [photo["file"] for photo in report["left_out"]] == ["1.png", "3.png"]
        assert all(photo["reason"] for photo in report["left_out"])
        if command == "evaluate":
            assert (report["top1_right"], report["top1"]) == (3, 3 / 5)
    elif command == "evaluate":
        assert "images             5, 2 left out" in found.stdout
        assert "3 of 5" in found.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_nothing_but_bad_photos_is_an_error(run: Any, model: Path, place: Path, command: str) -> None:
    (place / "labels.csv").write_text("file,label\n0.png,0\n1.png,1\n")
    for index in range(2):
        (place / f"{index}.png").write_bytes(b"no photo")
    found = run(command, model, "--images", place, *COMMANDS[command])
    assert found.exit_code not in (0, ExitCode.LEFT_OUT)
    assert found.stderr.count("\n") == 1
    assert "0.png: is not an image that Pillow can read; none of 2 photos can be used" in found.stderr


def test_many_bad_photos_are_counted(run: Any, model: Path, photos: Path, place: Path) -> None:
    unlabelled(photos, place)
    for index in range(20):
        (place / f"bad{index:02}.jpg").write_bytes(b"no photo")
    found = run("verify", model, "--images", place)
    assert found.exit_code == ExitCode.LEFT_OUT
    assert found.stderr.splitlines()[-1] == "warning: 15 more photos left out"
    assert found.stderr.count("\n") == 6
    assert "on 7 images" in found.stdout


def test_a_difference_counts_more_than_photos_left_out(
    run: Any, engine: Any, model: Path, photos: Path, place: Path
) -> None:
    engine.faults["scale"] = (0, 9)
    found = run("verify", model, "--images", damaged(photos, place))
    assert found.exit_code == ExitCode.DIFFERENCE


def test_classify_takes_folders_of_any_photos(run: Any, model: Path, photos: Path, place: Path) -> None:
    as_folders(photos, place)
    shutil.copy(photos / "0.png", place / "without suffix")
    (place / "notes.txt").write_text("x")
    found = run("classify", model, place, "--json")
    assert found.exit_code == 0, found.output
    assert len(json.loads(found.stdout)["photos"]) == 8
    (place / "photo.heic").write_bytes(b"ftypheic")
    found = run("classify", model, place, "--json")
    assert found.exit_code == ExitCode.LEFT_OUT
    assert [Path(photo["file"]).name for photo in json.loads(found.stdout)["left_out"]] == ["photo.heic"]


def test_names_that_are_not_utf8(nybble_process: Any, model: Path, photos: Path, place: Path) -> None:
    folder = place / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    shutil.copy(photos / "0.png", folder / os.fsdecode(b"ph\xe9\n.png"))
    (folder / os.fsdecode(b"b\xe9d.png")).write_bytes(b"x")
    environment = os.environ | {"PYTHONIOENCODING": "utf-8:strict"}
    for arguments in (
        ("classify", model, *sorted(folder.iterdir())),
        ("classify", model, *sorted(folder.iterdir()), "--json"),
        ("verify", model, "--images", folder, "--json"),
        ("profile", model, "--images", folder, "--runs", 1, "--json"),
    ):
        found = nybble_process(*arguments, env=environment)
        assert found.returncode == ExitCode.LEFT_OUT, found.stderr
        assert found.stderr.count("\n") == 1 and "b\\udce9d.png: is not an image" in found.stderr
        if "--json" in arguments:
            assert json.loads(found.stdout)["left_out"]


def test_classify_goes_on_without_bad_photos(run: Any, model: Path, photos: Path, place: Path) -> None:
    damaged(photos, place)
    some = [place / f"{index}.png" for index in range(4)]
    found = run("classify", model, *some, "--json")
    assert found.exit_code == ExitCode.LEFT_OUT
    report = json.loads(found.stdout)
    assert [Path(photo["file"]).name for photo in report["photos"]] == ["0.png", "2.png"]
    assert [Path(photo["file"]).name for photo in report["left_out"]] == ["1.png", "3.png"]
    whole = json.loads(run("classify", model, some[0], some[2], "--json").stdout)
    assert whole["photos"] == report["photos"] and whole["exif"] is True
    assert run("classify", model, *some).stdout.count(".png") == 2
    alone = run("classify", model, some[1])
    assert alone.exit_code not in (0, ExitCode.LEFT_OUT) and "1.png: cannot be decoded" in alone.stderr


@pytest.fixture
def turned(photos: Path, place: Path) -> Path:
    """The photos as a camera stores them that was held sideways, labelled as they are upright."""
    exif = Image.Exif()
    exif[0x0112] = 6
    for file, _ in rows_of(photos):
        with Image.open(photos / file) as photo:
            photo.transpose(Image.Transpose.ROTATE_90).save(place / file, exif=exif)
    shutil.copy(photos / "labels.csv", place)
    return place


def test_exif_is_applied_by_default_where_photos_are_classified(
    run: Any, model: Path, photos: Path, turned: Path
) -> None:
    def scores(folder: Path, *options: str) -> Any:
        found = json.loads(run("classify", model, folder / "0.png", "--json", *options).stdout)
        return [entry["score"] for entry in found["photos"][0]["predictions"]], found["exif"]

    upright = scores(photos)[0]
    assert scores(turned) == (upright, True)
    assert scores(turned, "--exif") == (upright, True)
    left, told = scores(turned, "--no-exif")
    assert left != upright and told is False


def test_the_python_interface_turns_photos_unless_told_not_to(model: Path, photos: Path, turned: Path) -> None:
    with nybble.load(model, threads=1) as engine:
        upright = engine.classify([photos / "0.png"])
        assert engine.classify([turned / "0.png"]) == upright
        with Image.open(turned / "0.png") as photo:
            assert engine.classify([photo]) == upright
        assert engine.classify([turned / "0.png"], exif=False) != upright


def test_exif_is_not_applied_by_default_where_accuracy_is_measured(run: Any, model: Path, turned: Path) -> None:
    predictions = turned.parent / "predictions.csv"

    def rows(*options: str) -> Any:
        found = run("evaluate", model, "--images", turned, "--predictions", predictions, "--json", *options)
        assert found.exit_code == 0
        report = json.loads(found.stdout)
        return report["exif"], report["top1_right"], predictions.read_text()

    plain = rows()
    assert plain[0] is False and plain == rows("--no-exif")
    upright = rows("--exif")
    assert upright[:2] == (True, 5) and upright[2] != plain[2]
    for command in ("verify", "profile", "tune"):
        found = run(command, model, "--images", turned, *COMMANDS[command], "--exif", "--limit", 2, "--json")
        assert json.loads(found.stdout)["exif"] is True, found.output


@pytest.mark.parametrize("form", [*LABELLED, *UNLABELLED])
def test_bench_reads_every_form(model: Path, photos: Path, place: Path, form: str) -> None:
    graph = read_graph(model)
    assert graph.preprocessing is not None
    images = (LABELLED | UNLABELLED)[form](photos, place)
    found = read_photos(images, graph.preprocessing, None, network_classes(graph))
    wanted = {(photos / file): label for file, label in rows_of(photos)}
    assert len(found) == 7
    if form in LABELLED:
        assert sorted(found.labels or []) == sorted(wanted.values())
    else:
        assert found.labels is None


def test_bench_leaves_out_bad_photos(model: Path, photos: Path, turned: Path, tmp_path: Path) -> None:
    graph = read_graph(model)
    assert graph.preprocessing is not None
    found = read_photos(damaged(photos, tmp_path / "damaged"), graph.preprocessing, None, 10)
    assert (len(found), len(found.labels or [])) == (5, 5)
    assert [photo.file for photo in found.left_out] == ["1.png", "3.png"]
    upright = read_photos(turned, graph.preprocessing, None, 10, exif=True)
    plain = load_photo(turned / "0.png", graph.preprocessing)
    np.testing.assert_array_equal(upright.samples[0], plain)
    for path in (tmp_path / "damaged").glob("*.png"):
        path.write_bytes(b"x")
    with pytest.raises(ImageError, match="none of 7 photos"):
        read_photos(tmp_path / "damaged", graph.preprocessing)


def test_bench_says_what_was_left_out(run: Any, model: Path, photos: Path, place: Path, tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    images = damaged(photos, place)
    found = run("bench", model, "--images", images, "--seconds", 0, "--batch", 1, "--no-dense", "--output", result)
    assert found.exit_code == ExitCode.LEFT_OUT, found.output
    report = json.loads(result.read_text())
    assert [photo["file"] for photo in report["left_out"]] == ["1.png", "3.png"]
    assert (report["photo_count"], report["exif"]) == (5, False)
