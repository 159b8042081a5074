"""Labelled photos for every task but classification: boxes, masks, clean images, text. docs/tasks.md has the forms."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nybble.graph import Detect, Segment, Task, Text
from nybble.graph.types import Array
from nybble.images import ImageError, open_photos
from nybble.images.listing import Row, read_rows

BOXES, TEXTS = "boxes.csv", "texts.csv"
IMAGES, LABELS, MASKS, CLEAN = "images", "labels", "masks", "clean"
_SIDES = ("left", "top", "right", "bottom")
_CORNERS = ("x1", "y1", "x2", "y2", "x3", "y3", "x4", "y4")


@dataclass(frozen=True, eq=False)
class Labelled:
    """A photo and its ground truth. Fields that the task does not use are empty.

    Attributes
    ----------
    file : str
        Its name in the set.
    path : Path
    boxes : ndarray
        float64 (N, 4): left, top, right, bottom in pixels or, with ``shares``, as shares of the photo.
    labels : ndarray
        int64 (N), of the boxes.
    shares : bool
    mask, clean : Path, optional
        Files of the map of classes and of the clean image.
    polygons : ndarray
        float64 (N, 4, 2): corners of text in pixels.
    """

    file: str
    path: Path
    boxes: Array
    labels: Array
    shares: bool = False
    mask: Path | None = None
    clean: Path | None = None
    polygons: Array | None = None

    def boxes_in(self, width: int, height: int) -> Array:
        """The boxes in pixels of a photo of that size."""
        return self.boxes * (width, height, width, height) if self.shares else self.boxes

    def read_mask(self, size: tuple[int, int]) -> Array:
        """The map of classes (rows, columns).

        Raises
        ------
        ImageError
            Naming the mask: it is not an image of one channel or has another size than the photo.
        """
        from PIL import Image

        if self.mask is None:
            raise ImageError(self.path, "has no mask")
        try:
            with Image.open(self.mask) as image:
                found = np.asarray(image)
        except OSError as error:
            raise ImageError(self.mask, f"cannot be read: {error.strerror or error}") from error
        if found.ndim != 2 or found.dtype.kind not in "iu":
            raise ImageError(self.mask, f"has {found.ndim} axes of {found.dtype}; a mask has one number for each pixel")
        if found.shape != size:
            raise ImageError(
                self.mask, f"has {found.shape[1]}x{found.shape[0]} pixels, but its photo has {size[1]}x{size[0]}"
            )
        return found


def open_labelled(task: Task, path: str | Path, names: Sequence[str], limit: int | None = None) -> list[Labelled]:
    """Open a set of labelled photos.

    Parameters
    ----------
    task : Task
        Detect, Segment, Text or Restore.
    path : str or Path
        A folder.
    names : sequence of str
        Of the classes, by which boxes may be labelled.
    limit : int, optional
        Only the first photos in order of name.

    Raises
    ------
    ImageError
        Naming the file and line that is wrong, or the form that is missing.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise ImageError(folder, "is not a folder")
    if isinstance(task, Detect):
        return _boxes(folder, names, limit)
    if isinstance(task, Segment):
        return _masks(folder, limit)
    if isinstance(task, Text):
        return _texts(folder, limit)
    return _clean(folder, limit)


def _empty(file: str, path: Path) -> Labelled:
    return Labelled(file, path, np.zeros((0, 4)), np.zeros(0, dtype=np.int64))


def _photos(folder: Path, limit: int | None) -> list[tuple[str, Path]]:
    found = sorted((photo.file, photo.path) for photo in open_photos(folder))
    return found[:limit]


def _boxes(folder: Path, names: Sequence[str], limit: int | None) -> list[Labelled]:
    table = folder / BOXES
    if table.is_file():
        return _boxes_of_table(folder, table, names, limit)
    if not ((folder / IMAGES).is_dir() and (folder / LABELS).is_dir()):
        raise ImageError(
            folder, f"has neither folders {IMAGES}/ and {LABELS}/ (a text file for each photo) nor a {BOXES}"
        )
    made = []
    for file, path in _photos(folder / IMAGES, limit):
        text = (folder / LABELS / file).with_suffix(".txt")
        boxes, labels = _yolo(text, len(names)) if text.is_file() else (np.zeros((0, 4)), np.zeros(0, np.int64))
        made.append(Labelled(file, path, boxes, labels, shares=True))
    return made


def _yolo(path: Path, classes: int) -> tuple[Array, Array]:
    """Boxes as shares and labels of a file of lines ``class centre-x centre-y width height``."""
    boxes, labels = [], []
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ImageError(path, f"cannot be read: {error}") from error
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words:
            continue
        if len(words) != 5:
            raise ImageError(path, f"expected class, centre x, y, width, height; found {line[:60]!r}", line=number)
        labels.append(_label(path, number, words[0], (), classes))
        x, y, width, height = _numbers(path, number, words[1:])
        if not (0 <= x <= 1 and 0 <= y <= 1 and 0 <= width <= 1 and 0 <= height <= 1):
            raise ImageError(path, f"{line[:60]!r}: centre and size are shares of the image, 0 to 1", line=number)
        boxes.append((x - width / 2, y - height / 2, x + width / 2, y + height / 2))
    return np.array(boxes, dtype=np.float64).reshape(-1, 4), np.array(labels, dtype=np.int64)


def _boxes_of_table(folder: Path, table: Path, names: Sequence[str], limit: int | None) -> list[Labelled]:
    made = []
    for file, rows in _grouped(table, ("label", *_SIDES), limit):
        boxes, labels = [], []
        for row in rows:
            if row.label is None:
                continue  # A photo without boxes.
            labels.append(_label(table, row.line, str(row.label), names, len(names)))
            left, top, right, bottom = _numbers(table, row.line, [row.extra[side] for side in _SIDES])
            if right < left or bottom < top:
                raise ImageError(table, "right is less than left, or bottom less than top", line=row.line)
            boxes.append((left, top, right, bottom))
        corners = np.array(boxes, dtype=np.float64).reshape(-1, 4)
        made.append(Labelled(file, _inside(table, folder, rows[0]), corners, np.array(labels, dtype=np.int64)))
    return made


def _grouped(table: Path, columns: Sequence[str], limit: int | None) -> list[tuple[str, list[Row]]]:
    """The rows of each file, in order of name."""
    with table.open(newline="", encoding="utf-8-sig") as text:
        header = [cell.strip() for cell in next(csv.reader(text), [])]
    missing = [name for name in ("file", *columns) if name not in header]
    if missing:
        raise ImageError(table, f"has no column {missing[0]!r}; the header must be file,{','.join(columns)}", line=1)
    groups: dict[str, list[Row]] = {}
    for row in read_rows(table):
        groups.setdefault(row.file, []).append(row)
    return sorted(groups.items())[:limit]


def _inside(table: Path, folder: Path, row: Row) -> Path:
    path = folder / row.file
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ImageError(table, f"file {row.file!r} is not inside the folder", line=row.line)
    if not path.is_file():
        raise ImageError(table, f"lists {row.file[:200]!r}, which is not there", line=row.line)
    return path


def _label(path: Path, line: int, text: str, names: Sequence[str], classes: int) -> int:
    if text.isascii() and text.isdecimal() and int(text) < classes:
        return int(text)
    if text in names:
        return names.index(text)
    raise ImageError(path, f"label {text[:40]!r} is not a class of the network and not in 0..{classes - 1}", line=line)


def _numbers(path: Path, line: int, words: Sequence[str]) -> list[float]:
    try:
        found = [float(word) for word in words]
    except ValueError as error:
        raise ImageError(path, f"expected numbers: {error}", line=line) from error
    if not np.isfinite(found).all():
        raise ImageError(path, "expected finite numbers", line=line)
    return found


def _masks(folder: Path, limit: int | None) -> list[Labelled]:
    beside = folder.with_name(f"{folder.name}-{LABELS}")
    if (folder / IMAGES).is_dir() and (folder / MASKS).is_dir():
        photos, masks = folder / IMAGES, folder / MASKS
    elif beside.is_dir():
        photos, masks = folder, beside
    else:
        raise ImageError(folder, f"has no folders {IMAGES}/ and {MASKS}/, and there is no folder {beside.name} beside")
    made = []
    for file, path in _photos(photos, limit):
        mask = (masks / file).with_suffix(".png")
        if not mask.is_file():
            raise ImageError(path, f"has no mask {mask}")
        made.append(replace(_empty(file, path), mask=mask))
    return made


def _clean(folder: Path, limit: int | None) -> list[Labelled]:
    pairs = (folder / IMAGES).is_dir() and (folder / CLEAN).is_dir()
    made = []
    for file, path in _photos(folder / IMAGES if pairs else folder, limit):
        clean = folder / CLEAN / file if pairs else path
        if not clean.is_file():
            raise ImageError(path, f"has no clean image {clean}")
        made.append(replace(_empty(file, path), clean=clean))
    return made


def _texts(folder: Path, limit: int | None) -> list[Labelled]:
    table = folder / TEXTS
    if not table.is_file():
        raise ImageError(folder, f"has no {TEXTS} with the columns file,{','.join(_CORNERS)}")
    made = []
    for file, rows in _grouped(table, _CORNERS, limit):
        numbers = [_numbers(table, row.line, [row.extra[name] for name in _CORNERS]) for row in rows if row.extra["x1"]]
        polygons = np.array(numbers, dtype=np.float64).reshape(-1, 4, 2)
        made.append(replace(_empty(file, _inside(table, folder, rows[0])), polygons=polygons))
    return made
