"""Which photos there are and what they show: a ``labels.csv``, or a list such as ImageNet's ``val_map.txt``."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from nybble.images import ImageError, LabelledFolder, LabelledPhoto

#: The list of a folder that has no labels.csv: a file and its label in each line.
VAL_MAP = "val_map.txt"
_NUMBER = re.compile(r"ILSVRC2012_val_0*(\d+)\.")


class Labelled(NamedTuple):
    """A line of a list: the file as written there, and its label."""

    file: str
    label: int

    @property
    def row(self) -> int | None:
        """Where ImageNet's validation set has the photo, counted from 0; ``None`` where the name does not tell."""
        found = _NUMBER.search(self.file)
        return int(found[1]) - 1 if found else None


def read_labels(path: Path) -> list[Labelled]:
    """The lines of a list, whether its photos are at hand or not.

    Parameters
    ----------
    path : Path
        A ``labels.csv`` (``file,label,…``), any other file of lines ``file label``, or a folder that has one of both.

    Raises
    ------
    ImageError
        Naming file and line.
    """
    if path.is_dir():
        path = next((path / name for name in ("labels.csv", VAL_MAP) if (path / name).is_file()), path / "labels.csv")
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            rows = _csv(path, lines) if path.suffix == ".csv" else _list(path, lines)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ImageError(path, f"cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if not rows:
        raise ImageError(path, "lists no photos")
    return rows


def find_photos(images: Path, labels: Path | None, classes: int, limit: int | None = None) -> Sequence[LabelledPhoto]:
    """The photos to run, in the order of the list.

    Parameters
    ----------
    images : Path
        The folder that holds them.
    labels : Path, optional
        The list; by default ``labels.csv`` of the folder, else its ``val_map.txt``.
    classes : int
        Labels must be smaller.
    limit : int, optional
        Only the first so many.

    Raises
    ------
    ImageError
        Naming file and line: no list, a photo that is not there, a label out of range, a file listed twice.
    """
    if not images.is_dir():
        raise ImageError(images, "is not a folder")
    if labels is None and not (images / "labels.csv").is_file() and (images / VAL_MAP).is_file():
        labels = images / VAL_MAP
    if labels is None or os.path.realpath(labels) == os.path.realpath(images / "labels.csv"):
        return LabelledFolder(images, limit, classes=classes)
    photos: dict[str, LabelledPhoto] = {}
    for number, (file, label) in enumerate(read_labels(labels)[:limit], start=1):
        if label >= classes:
            raise ImageError(labels, f"label {label} of {file} is not in 0..{classes - 1}", line=number)
        if file in photos:
            raise ImageError(labels, f"lists {file!r} twice", line=number)
        path = PurePosixPath(file)
        if path.is_absolute() or ".." in path.parts or not (images / path).is_file():
            raise ImageError(labels, f"lists {file!r}, which is not in {images}", line=number)
        photos[file] = LabelledPhoto(file=file, path=images / path, label=label)
    return tuple(photos.values())


def _csv(path: Path, lines: Sequence[str] | object) -> list[Labelled]:
    table = csv.DictReader(lines, strict=True)  # type: ignore[arg-type]
    if table.fieldnames is None or not {"file", "label"} <= set(table.fieldnames):
        raise ImageError(path, "the header must be file,label,…", line=1)
    return [_labelled(path, table.line_num, row["file"] or "", row["label"] or "") for row in table]


def _list(path: Path, lines: Sequence[str] | object) -> list[Labelled]:
    rows = []
    for number, line in enumerate(lines, start=1):  # type: ignore[arg-type, var-annotated]
        cells = line.split()
        if not cells:
            continue
        if len(cells) != 2:
            raise ImageError(path, f"expected 'file label', got {line.strip()[:60]!r}", line=number)
        rows.append(_labelled(path, number, *cells))
    return rows


def _labelled(path: Path, line: int, file: str, label: str) -> Labelled:
    text = label.strip()
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise ImageError(path, f"label {text[:40]!r} is not an integer from 0 on", line=line)
    return Labelled(file, int(text))
