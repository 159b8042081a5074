"""Labelled photos in every form, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nybble.graph import Detect, Restore, Segment, Text
from nybble.images import ImageError
from nybble.tasks.labelled import open_labelled

DETECT = Detect(3, ("x",), ("x",), strides=(8,))
NAMES = ("cat", "dog", "7")


def photo(path: Path, rows: int = 10, columns: int = 20) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((rows, columns), np.uint8)).save(path)


def text(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def test_yolo(tmp_path: Path) -> None:
    for name in ("b", "a"):
        photo(tmp_path / "images" / f"{name}.png")
    text(tmp_path / "labels" / "b.txt", "2 0.5 0.5 0.5 1\n\n0 0.25 0.25 0.5 0.5\n")
    first, second = open_labelled(DETECT, tmp_path, NAMES)
    assert (first.file, second.file) == ("a.png", "b.png")
    assert first.boxes.shape == (0, 4) and second.labels.tolist() == [2, 0]
    assert second.boxes_in(20, 10).tolist() == [[5, 0, 15, 10], [0, 0, 10, 5]]
    assert len(open_labelled(DETECT, tmp_path, NAMES, 1)) == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("3 0.5 0.5 0.5 0.5", r"a\.txt:1: label '3' is not a class of the network and not in 0\.\.2"),
        ("1 0.5 0.5 0.5", "a.txt:1: expected class, centre x, y, width, height"),
        ("1 0.5 0.5 0.5 x", "a.txt:1: expected numbers"),
        ("1 0.5 0.5 0.5 nan", "a.txt:1: expected finite numbers"),
        ("1 50 50 10 10", "a.txt:1: .* shares of the image"),
    ],
)
def test_broken_yolo(line: str, message: str, tmp_path: Path) -> None:
    photo(tmp_path / "images" / "a.png")
    text(tmp_path / "labels" / "a.txt", line)
    with pytest.raises(ImageError, match=message):
        open_labelled(DETECT, tmp_path, NAMES)


def test_tables_of_boxes(tmp_path: Path) -> None:
    photo(tmp_path / "a.png")
    photo(tmp_path / "b.png")
    rows = "file,label,left,top,right,bottom\nb.png,dog,1,2,3,4\na.png,,,,,\nb.png,0,0,0,20,10\n"
    text(tmp_path / "boxes.csv", rows)
    first, second = open_labelled(DETECT, tmp_path, NAMES)
    assert first.boxes.shape == (0, 4) and second.labels.tolist() == [1, 0]
    assert second.boxes_in(20, 10).tolist() == [[1, 2, 3, 4], [0, 0, 20, 10]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("file,label\na.png,0\n", "boxes.csv:1: has no column 'left'; the header must be file,label,left,top,right,"),
        ("file,label,left,top,right,bottom\na.png,0,3,0,1,1\n", "boxes.csv:2: right is less than left"),
        ("file,label,left,top,right,bottom\na.png,cow,0,0,1,1\n", "boxes.csv:2: label 'cow' is not a class"),
        ("file,label,left,top,right,bottom\nc.png,0,0,0,1,1\n", "boxes.csv:2: lists 'c.png', which is not there"),
        ("file,label,left,top,right,bottom\n../a.png,0,0,0,1,1\n", "boxes.csv:2: .* not inside the folder"),
    ],
)
def test_broken_tables(content: str, message: str, tmp_path: Path) -> None:
    photo(tmp_path / "a.png")
    text(tmp_path / "boxes.csv", content)
    with pytest.raises(ImageError, match=message):
        open_labelled(DETECT, tmp_path, NAMES)


def test_masks(tmp_path: Path) -> None:
    photo(tmp_path / "test" / "a.jpg")
    photo(tmp_path / "test-labels" / "a.png")
    (found,) = open_labelled(Segment("x"), tmp_path / "test", NAMES)
    assert found.read_mask((10, 20)).shape == (10, 20)
    with pytest.raises(ImageError, match=r"a\.png: has 20x10 pixels, but its photo has 30x10"):
        found.read_mask((10, 30))
    Image.fromarray(np.zeros((10, 20, 3), np.uint8)).save(tmp_path / "test-labels" / "a.png")
    with pytest.raises(ImageError, match="a mask has one number for each pixel"):
        found.read_mask((10, 20))
    (tmp_path / "test-labels" / "a.png").unlink()
    with pytest.raises(ImageError, match=r"a\.jpg: has no mask"):
        open_labelled(Segment("x"), tmp_path / "test", NAMES)


def test_clean_images(tmp_path: Path) -> None:
    photo(tmp_path / "images" / "a.png")
    photo(tmp_path / "clean" / "a.png")
    (found,) = open_labelled(Restore("x"), tmp_path, ())
    assert found.path.parent.name == "images" and found.clean == tmp_path / "clean" / "a.png"
    (alone,) = open_labelled(Restore("x"), tmp_path / "images", ())
    assert alone.clean == alone.path


def test_texts(tmp_path: Path) -> None:
    photo(tmp_path / "a.png")
    text(tmp_path / "texts.csv", "file,x1,y1,x2,y2,x3,y3,x4,y4\na.png,1,1,9,1,9,5,1,5\n")
    (found,) = open_labelled(Text("x"), tmp_path, ())
    assert found.polygons is not None and found.polygons.tolist() == [[[1, 1], [9, 1], [9, 5], [1, 5]]]


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (DETECT, r"has neither folders images/ and labels/ .* nor a boxes\.csv"),
        (Segment("x"), "has no folders images/ and masks/, and there is no folder .*-labels beside"),
        (Text("x"), r"has no texts\.csv"),
    ],
)
def test_folders_of_no_form(task: Detect, message: str, tmp_path: Path) -> None:
    photo(tmp_path / "a.png")
    with pytest.raises(ImageError, match=message):
        open_labelled(task, tmp_path, NAMES)
    with pytest.raises(ImageError, match="is not a folder"):
        open_labelled(task, tmp_path / "a.png", NAMES)
