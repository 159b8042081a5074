"""Photos that LoadGen is not told of, labels that a run may lack, and photos turned upright."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import nybble
from nybble.cli.exit_codes import ExitCode
from nybble.graph import Preprocessing
from nybble.images import ImageError, LabelledFolder, LeftOut, load_photo, open_photos
from nybble.mlperf.accuracy import read_answers
from nybble.mlperf.job import Job
from nybble.mlperf.labels import LEFT_OUT, find_photos, read_labels
from nybble.mlperf.layout import RUN, layouts
from nybble.mlperf.store import Rows, form_of, open_store
from nybble.mlperf.sut import Photos

Run = Callable[..., Any]
PREPROCESSING = Preprocessing(resize=36, crop=(32, 32))
BAD = 4


@pytest.fixture
def damaged(photos: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "damaged"
    shutil.copytree(photos, folder)
    LabelledFolder(folder)[BAD].path.write_bytes(b"no photo")
    return folder


def test_the_store_goes_on_without_a_bad_photo(damaged: Path, tmp_path: Path) -> None:
    photos = open_photos(damaged)
    for _ in range(2):
        left_out = LeftOut()
        _, samples = open_store(photos, form_of(PREPROCESSING), tmp_path / "cache", left_out=left_out)
        assert [photo.file for photo in left_out] == [photos[BAD].file]
    rows = [row for row in range(len(photos)) if row != BAD]
    some = Rows(samples, rows)
    assert (len(some), some.shape) == (11, (11, 32, 32, 3))
    np.testing.assert_array_equal(some[[3, 4]], samples[[3, 5]])
    library = Photos(some)
    library.load([4, 10])
    out = np.empty((2, 32, 32, 3), np.uint8)
    library.copy([10, 4], out)
    np.testing.assert_array_equal(out, samples[[11, 5]])


def test_a_job_keeps_its_rows() -> None:
    job = Job("accuracy", "model", "samples", (12, 32, 32, 3), "Offline", 8, rows=(0, 2, 3))
    assert Job.read(job.line()) == job and job.photos == 3
    assert Job("accuracy", "model", "samples", (12, 32, 32, 3), "Offline", 8).photos == 12


def test_turned_photos_have_a_store_of_their_own(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    samples = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(samples).save(tmp_path / "1.png", exif=exif)
    photos = open_photos(tmp_path)
    found = {}
    for upright in (False, True, False):
        _, found[upright] = open_store(photos, form_of(PREPROCESSING), tmp_path / "cache", exif=upright)
        np.testing.assert_array_equal(found[upright][0], load_photo(photos[0].path, PREPROCESSING, exif=upright))
    assert not np.array_equal(found[False], found[True])


def test_an_accuracy_run_says_what_it_left_out(
    loadgen: Any, run: Run, model: Path, damaged: Path, short: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    options = ("--images", damaged, "--user-conf", short, "--threads", 1, "--out", out)
    found = run("mlperf", "run", model, *options, "--mode", "accuracy", "--json")
    assert found.exit_code == ExitCode.LEFT_OUT, found.output
    name = LabelledFolder(damaged)[BAD].file
    assert found.stderr.startswith(f"warning: {name}: is not an image")
    report = json.loads(found.stdout)
    assert [photo["file"] for photo in report["run"]["left_out"]] == [name]
    assert (report["run"]["photos"], report["accuracy"]["photos"], report["run"]["exif"]) == (11, 11, False)
    layout = layouts(out)[0]
    log = layout.accuracy("Offline")
    about = json.loads((layout.measurements("Offline") / RUN).read_text())
    assert any("1 photo left out, such as" in reason for reason in about["shortfalls"])
    # Answers are numbered without it, so the list has to be read without it too.
    assert [photo["file"] for photo in json.loads((log / LEFT_OUT).read_text())] == [name]
    assert len(read_labels(damaged, log)) == 11 and len(read_labels(damaged)) == 12
    engine = nybble.load(model, threads=1)
    good = [photo for photo in LabelledFolder(damaged) if photo.file != name]
    samples = np.stack([load_photo(photo.path, engine.graph.preprocessing, exif=False) for photo in good])
    answers = read_answers(log)
    assert [answers[number] for number in range(11)] == engine(samples).argmax(axis=1).tolist()
    counted = json.loads(run("mlperf", "accuracy", log, "--labels", damaged, "--json").stdout)
    assert (counted["right"], counted["photos"]) == (report["accuracy"]["right"], 11)
    assert "left out" in run("mlperf", "accuracy", log, "--labels", damaged).stdout


def test_speed_needs_no_labels(loadgen: Any, run: Run, model: Path, photos: Path, short: Path, tmp_path: Path) -> None:
    folder = tmp_path / "plain"
    shutil.copytree(photos, folder)
    (folder / "labels.csv").unlink()
    options = ("--images", folder, "--user-conf", short, "--threads", 1)
    found = run("mlperf", "run", model, *options, "--out", tmp_path / "out")
    assert found.exit_code == 0, found.output
    refused = run("mlperf", "run", model, *options, "--mode", "accuracy", "--out", tmp_path / "other")
    assert refused.exit_code not in (0, ExitCode.LEFT_OUT)
    assert "has no label, and accuracy needs one" in refused.stderr


def test_lists_and_class_folders_are_photos_to_run(photos: Path, tmp_path: Path) -> None:
    folder = LabelledFolder(photos)
    text = "".join(f"{photo.path} {photo.label}\n" for photo in folder)
    (tmp_path / "list.txt").write_text(text)
    found = find_photos(tmp_path / "list.txt", None, 10)
    assert [(photo.path, photo.label) for photo in found] == [(photo.path, photo.label) for photo in folder]
    for photo in folder:
        place = tmp_path / "classes" / f"kind {photo.label}"
        place.mkdir(exist_ok=True, parents=True)
        shutil.copy(photo.path, place)
    by_name = {photo.path.name: photo.label for photo in find_photos(tmp_path / "classes", None, 10)}
    assert by_name == {photo.file: photo.label for photo in folder}


LISTS = {
    "labels.csv": "file,label\na.png,7\nb.png,9\n",
    "val_map.txt": "a.png 7\nb.png 9\n",
    "list.csv": "a.png,7\nb.png,9\n",
    "LIST.CSV": "a.png,7\nb.png,9\n",
    "names.csv": "a.png,cock\nb.png,ostrich\n",
    "names.txt": "a.png\tcock\nb.png\tostrich\n",
}


@pytest.mark.parametrize("name", LISTS)
def test_labels_may_be_any_list(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(LISTS[name])
    assert read_labels(tmp_path / name) == [("a.png", 7), ("b.png", 9)]
    if name in ("labels.csv", "val_map.txt"):
        assert read_labels(tmp_path) == [("a.png", 7), ("b.png", 9)]


def test_labels_may_be_class_folders(tmp_path: Path) -> None:
    for name in ("cock", "ostrich"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (4, 4)).save(tmp_path / name / "1.png")
    assert read_labels(tmp_path) == [("cock/1.png", 7), ("ostrich/1.png", 9)]
    (tmp_path / "ostrich").rename(tmp_path / "of no network")
    with pytest.raises(ImageError, match="label 'cock' is a name, and not all names are ImageNet's"):
        read_labels(tmp_path)


def test_labels_are_asked_for(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "1.png")
    with pytest.raises(ImageError, match=r"1\.png has no label"):
        read_labels(tmp_path)
    (tmp_path / "some.csv").write_text("file,label\na.png,7\nb.png,\n")
    with pytest.raises(ImageError, match=r"some\.csv:3: b\.png has no label"):
        read_labels(tmp_path / "some.csv")


def test_the_list_of_a_run_may_be_a_folder_that_has_one(photos: Path, tmp_path: Path) -> None:
    lists = tmp_path / "lists"
    lists.mkdir()
    with pytest.raises(ImageError, match=r"is a folder without labels\.csv or val_map\.txt"):
        find_photos(photos, lists, 10)
    shutil.copy(photos / "labels.csv", lists)
    found = find_photos(photos, lists, 10)
    assert [photo.path for photo in found] == [photo.path for photo in LabelledFolder(photos)]
