"""Photos and their labels: a ``labels.csv``, a list such as ImageNet's ``val_map.txt``, or a folder per class."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from nybble.images import ImageError, PhotoFiles, open_photos
from nybble.images.collection import LABELS, VAL_MAP, list_in
from nybble.images.errors import printable
from nybble.images.listing import Row, read_rows
from nybble.images.names import known_classes, match_classes

#: Beside an accuracy log: the photos of the list that were left out, and why.
LEFT_OUT = "left_out.json"
#: Classes of the data set that the benchmark is about.
IMAGENET = 1000
_NUMBER = re.compile(r"ILSVRC2012_val_0*(\d+)\.")


class Labelled(NamedTuple):
    """A line of a list: the file as written there, and its label."""

    file: str
    label: int

    @property
    def row(self) -> int | None:
        """The photo's number in ImageNet's validation set, from 0; ``None`` if its name does not tell."""
        found = _NUMBER.search(self.file)
        return int(found[1]) - 1 if found else None


def read_labels(path: Path, log: Path | None = None) -> list[Labelled]:
    """The lines of a list, whether its photos are at hand or not.

    Parameters
    ----------
    path : Path
        A ``labels.csv`` (``file,label,…``) or another list of files and labels, a folder that has one, or a folder per
        class. Names of classes are those of ImageNet: which network ran is not known here.
    log : Path, optional
        The accuracy log that the list is for, or its folder: photos that its run left out are left out.

    Raises
    ------
    ImageError
        Naming file and line.
    """
    listed = list_in(path) if path.is_dir() else path
    if listed is None:
        folders = open_photos(path)
        found = [(photo.file, folders.classes[photo.label] if photo.label is not None else None) for photo in folders]
        rows = [Row(file, name, 0) for file, name in found]
    else:
        rows = read_rows(listed, headed=listed.name == LABELS)
    numbers = _numbers(path, rows)
    gone = left_out_of(log)
    labels: list[Labelled] = []
    for row in rows:
        if row.label is None:
            raise ImageError(listed or path, f"{printable(row.file)} has no label", line=row.line or None)
        if row.file not in gone:
            labels.append(Labelled(row.file, numbers[row.label] if isinstance(row.label, str) else row.label))
    return labels


def _numbers(path: Path, rows: Sequence[Row]) -> dict[str, int]:
    """The number of each class that rows name."""
    names = sorted({row.label for row in rows if isinstance(row.label, str)})
    if not names:
        return {}
    numbers = match_classes(names, known_classes(IMAGENET, None))
    if isinstance(numbers, str):
        raise ImageError(
            path,
            f"label {printable(names[0])!r} is a name, and not all names are ImageNet's; list the photos with the "
            "network's numbers",
        )
    return dict(zip(names, numbers, strict=True))


def find_photos(
    images: Path,
    labels: Path | None,
    classes: int | Sequence[str] | None,
    limit: int | None = None,
    *,
    need: bool = True,
) -> PhotoFiles:
    """The photos to run, in the order of the list.

    Parameters
    ----------
    images : Path
        Photos as :func:`nybble.images.open_photos` takes them; with ``labels``, the folder that holds them.
    labels : Path, optional
        A list to use instead of the folder's own.
    classes : int or sequence of str or None
        Number or names of the network's classes.
    limit : int, optional
        Only the first so many.
    need : bool
        Whether photos must have labels.

    Raises
    ------
    ImageError
        Naming file and line: no list, a photo that is not there, a label out of range, a file listed twice.
    """
    if labels is None:
        return open_photos(images, limit, classes=classes, labels=need)
    if not images.is_dir():
        raise ImageError(images, "is not a folder")
    listed = list_in(labels) if labels.is_dir() else labels
    if listed is None:
        raise ImageError(labels, f"is a folder without {LABELS} or {VAL_MAP}; name a list of photos")
    return open_photos(listed, limit, classes=classes, labels=need, root=images)


def left_out_of(log: Path | None) -> set[str]:
    """Names of the photos that the run of an accuracy log left out, as the file beside it says."""
    if log is None:
        return set()
    path = (log if log.is_dir() else log.parent) / LEFT_OUT
    if not path.is_file():
        return set()
    try:
        return {entry["file"] for entry in json.loads(path.read_text(encoding="utf-8-sig"))}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ImageError(path, f"is not a list of photos left out: {error}") from error
