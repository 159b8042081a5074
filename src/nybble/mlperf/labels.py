"""Which photos there are and what they show: a ``labels.csv``, or a list such as ImageNet's ``val_map.txt``."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from nybble.images import ImageError, PhotoFiles, open_photos
from nybble.images.collection import LABELS, VAL_MAP
from nybble.images.listing import read_rows

#: Beside an accuracy log: the photos of the list that were left out, and why.
LEFT_OUT = "left_out.json"
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


def read_labels(path: Path, log: Path | None = None) -> list[Labelled]:
    """The lines of a list, whether its photos are at hand or not.

    Parameters
    ----------
    path : Path
        A ``labels.csv`` (``file,label,…``), any other file of lines ``file label``, or a folder that has one of both.
    log : Path, optional
        The accuracy log that the list is for, or its folder: lines of photos that its run left out are left out.

    Raises
    ------
    ImageError
        Naming file and line.
    """
    if path.is_dir():
        path = next((path / name for name in (LABELS, VAL_MAP) if (path / name).is_file()), path / LABELS)
    gone = left_out_of(log)
    labels: list[Labelled] = []
    for row in read_rows(path, headed=path.suffix == ".csv"):
        if not isinstance(row.label, int):
            raise ImageError(path, f"label {row.label or ''!r} is not an integer from 0 on", line=row.line)
        if row.file not in gone:
            labels.append(Labelled(row.file, row.label))
    return labels


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
        A list in place of that of the folder.
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
    return open_photos(labels, limit, classes=classes, labels=need, root=images)


def left_out_of(log: Path | None) -> set[str]:
    """Names of the photos that the run of an accuracy log left out, as the file beside it says."""
    if log is None:
        return set()
    path = (log if log.is_dir() else log.parent) / LEFT_OUT
    if not path.is_file():
        return set()
    try:
        return {entry["file"] for entry in json.loads(path.read_text(encoding="utf-8-sig"))}
    except (ValueError, KeyError, TypeError) as error:
        raise ImageError(path, f"is no list of photos left out: {error}") from error
