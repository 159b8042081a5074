"""Labelled folders and batches: what is read, what is refused, and that threads change nothing."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nybble.graph import Preprocessing
from nybble.images import ImageError, LabelledFolder, batches

SMALL = Preprocessing(resize=4, crop=(4, 4))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    for index in range(11):
        Image.new("RGB", (5, 4), (index, 0, 0)).save(tmp_path / "sub" / f"{index}.png")
    rows = [f'sub/{index}.png,{index % 3},"Doe, J."' for index in range(11)]
    (tmp_path / "labels.csv").write_text("\n".join(["file,label,author", *rows]) + "\n", encoding="utf-8")
    return tmp_path


def test_rows_are_read_in_order(folder: Path) -> None:
    photos = LabelledFolder(folder)
    assert len(photos) == 11
    assert [photo.label for photo in photos[:4]] == [0, 1, 2, 0]
    assert photos[10].file == "sub/10.png"
    assert photos[10].path == folder / "sub" / "10.png"
    assert photos[-1].extra == {"author": "Doe, J."}
    assert len(LabelledFolder(folder, limit=3)) == 3
    assert len(LabelledFolder(folder, limit=300)) == 11


def test_a_byte_order_mark_and_blank_lines_do_no_harm(folder: Path) -> None:
    (folder / "labels.csv").write_text("\ufefflabel, file\r\n\r\n2,sub/1.png\r\n\r\n", encoding="utf-8")
    (photo,) = LabelledFolder(folder)
    assert (photo.file, photo.label) == ("sub/1.png", 2)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", None, "lists no photos"),
        ("file,label\n", None, "lists no photos"),
        ("name,label\na,1\n", 1, "no column 'file'; the header must be file,label"),
        ("file,class\na,1\n", 1, "no column 'label'"),
        ("file,label,label\nsub/1.png,1,1\n", 1, "column 'label' twice"),
        ("file,label\nsub/1.png\n", 2, "1 cells under 2 columns"),
        ("file,label\nsub/1.png,1\nsub/2.png,1,2\n", 3, "3 cells under 2 columns"),
        ("file,label\nsub/1.png,-1\n", 2, "label '-1' is not a non-negative integer"),
        ("file,label\nsub/1.png,1.0\n", 2, "label '1.0'"),
        ("file,label\nsub/1.png,\n", 2, "label ''"),
        ("file,label\nsub/1.png,²\n", 2, "label '²'"),
        ("file,label\nsub/1.png," + "9" * 5000 + "\n", 2, "label '999"),
        ("file,label\nsub/1.png,3\n", 2, r"label 3 is not in 0\.\.2"),
        ("file,label\nsub/x.png,1\n", 2, "lists 'sub/x.png', which is not there"),
        ("file,label\nsub,1\n", 2, "lists 'sub', which is not there"),
        ("file,label\n,1\n", 2, "is not inside"),
        ("file,label\n../a.png,1\n", 2, "is not inside"),
        ("file,label\nsub/../../a.png,1\n", 2, "is not inside"),
        ("file,label\n/etc/passwd,1\n", 2, "is not inside"),
        ("file,label\nC:\\a.png,1\n", 2, "is not inside"),
        ("file,label\nsub\\..\\..\\a.png,1\n", 2, "is not inside"),
        ("file,label\nsub/1.png,1\nsub/2.png,1\n\nsub/./1.png,1\n", 5, "again, first in line 2"),
        ('file,label\n"sub/1.png,1\n', 2, "is not CSV"),
        ('file,label\n"sub/1.png"x,1\n', 2, "is not CSV"),
        ("file,label\nsub/\0.png,1\n", 2, "is not CSV|is not there"),
    ],
)
def test_bad_lists_are_refused(folder: Path, text: str, line: int | None, message: str) -> None:
    (folder / "labels.csv").write_text(text, encoding="utf-8")
    with pytest.raises(ImageError, match=message) as caught:
        LabelledFolder(folder, classes=3)
    assert caught.value.line == line
    assert str(folder / "labels.csv") in str(caught.value)


def test_folders_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="absent: is not a folder"):
        LabelledFolder(tmp_path / "absent")
    with pytest.raises(ImageError, match=r"labels\.csv: cannot be read: No such file.*columns file,label"):
        LabelledFolder(tmp_path)
    (tmp_path / "labels.csv").write_bytes(b"file,label\n\xff.png,1\n")
    with pytest.raises(ImageError, match="not UTF-8"):
        LabelledFolder(tmp_path)
    with pytest.raises(ValueError, match="limit must be at least 1"):
        LabelledFolder(tmp_path, limit=0)


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("batch", [1, 4, 11, 20])
def test_batches_keep_the_order(folder: Path, batch: int, workers: int) -> None:
    photos = LabelledFolder(folder)
    seen = []
    for samples, entries in batches(photos, SMALL, batch=batch, workers=workers):
        assert samples.shape == (len(entries), 4, 4, 3)
        assert samples.dtype == np.uint8
        assert samples[:, 0, 0, 0].tolist() == [int(entry.path.stem) for entry in entries]
        seen.extend(entries)
    assert seen == list(photos)


def test_batches_pass_errors_on_and_leave_no_threads(folder: Path) -> None:
    (folder / "sub" / "6.png").write_bytes(b"no photo")
    before = threading.active_count()
    stream = batches(LabelledFolder(folder), SMALL, batch=3, workers=2)
    assert len(next(stream)[1]) == 3
    assert len(next(stream)[1]) == 3
    with pytest.raises(ImageError, match=r"6\.png: is not an image"):
        next(stream)
    assert threading.active_count() == before


def test_batches_may_be_left_early(folder: Path) -> None:
    before = threading.active_count()
    stream = batches(LabelledFolder(folder), SMALL, batch=2, workers=2)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_bad_arguments_are_refused_at_once(folder: Path) -> None:
    photos = LabelledFolder(folder)
    with pytest.raises(ValueError, match="batch must be at least 1"):
        batches(photos, SMALL, batch=0)
    with pytest.raises(ValueError, match="workers must be at least 1"):
        batches(photos, SMALL, workers=0)
