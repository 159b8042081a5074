"""Folders of photos with their labels."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import MappingProxyType
from typing import TextIO, overload

from nybble.images.errors import ImageError

_LABELS = "labels.csv"
#: Far above any number of classes, and safely an index.
_MAX_LABEL = 1 << 31


@dataclass(frozen=True)
class LabelledPhoto:
    """One row of ``labels.csv``: ``file`` as written there, where it lies, its label, and the other columns."""

    file: str
    path: Path
    label: int
    extra: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


class LabelledFolder(Sequence[LabelledPhoto]):
    """The photos of a folder that its ``labels.csv`` lists, in its order.

    The file is UTF-8 with a header that has at least ``file`` (relative to the folder) and ``label`` (an integer from
    0 on).

    Parameters
    ----------
    path : str or Path
    limit : int, optional
        Read only the first so many rows.
    classes : int, optional
        Labels must be smaller.

    Raises
    ------
    ImageError
        Naming the file and line, for a missing folder or file, a header, row or label that cannot be right, a file
        listed twice or outside the folder.
    """

    def __init__(self, path: str | Path, limit: int | None = None, *, classes: int | None = None) -> None:
        if limit is not None and limit < 1:
            raise ValueError(f"limit must be at least 1, got {limit}")
        self.path = Path(path)
        if not self.path.is_dir():
            raise ImageError(self.path, "is not a folder")
        table = self.path / _LABELS
        try:
            with table.open(newline="", encoding="utf-8-sig") as lines:
                self._photos = _read(self.path, table, lines, limit, classes)
        except OSError as error:
            raise ImageError(
                table,
                f"cannot be read: {error.strerror or error}; a folder of photos needs it, with columns file,label",
            ) from error
        except UnicodeDecodeError as error:
            raise ImageError(table, f"is not UTF-8: {error}") from error
        if not self._photos:
            raise ImageError(table, "lists no photos")

    @overload
    def __getitem__(self, index: int) -> LabelledPhoto: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[LabelledPhoto]: ...

    def __getitem__(self, index: int | slice) -> LabelledPhoto | Sequence[LabelledPhoto]:
        return self._photos[index]

    def __len__(self) -> int:
        return len(self._photos)


def _read(
    folder: Path, table: Path, lines: TextIO, limit: int | None, classes: int | None
) -> tuple[LabelledPhoto, ...]:
    photos: list[LabelledPhoto] = []
    seen: dict[str, int] = {}
    header: list[str] = []
    rows = csv.reader(lines, strict=True)
    try:
        for cells in rows:
            line = rows.line_num
            if not cells:
                continue
            if not header:
                header = _header(table, line, cells)
                continue
            if limit is not None and len(photos) == limit:
                break
            if len(cells) != len(header):
                raise ImageError(table, f"has {len(cells)} cells under {len(header)} columns", line=line)
            photo = _photo(folder, table, line, dict(zip(header, cells, strict=True)), classes)
            key = str(PurePosixPath(photo.file))
            if key in seen:
                raise ImageError(table, f"lists {photo.file!r} again, first in line {seen[key]}", line=line)
            seen[key] = line
            photos.append(photo)
    except csv.Error as error:
        raise ImageError(table, f"is not CSV: {error}", line=rows.line_num) from error
    return tuple(photos)


def _header(table: Path, line: int, cells: list[str]) -> list[str]:
    header = [cell.strip() for cell in cells]
    missing = [name for name in ("file", "label") if name not in header]
    if missing:
        raise ImageError(table, f"has no column {missing[0]!r}; the header must be file,label,…", line=line)
    twice = [name for name in header if header.count(name) > 1]
    if twice:
        raise ImageError(table, f"has column {twice[0]!r} twice", line=line)
    return header


def _photo(folder: Path, table: Path, line: int, row: dict[str, str], classes: int | None) -> LabelledPhoto:
    file, text = row.pop("file"), row.pop("label").strip()
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) < _MAX_LABEL):
        raise ImageError(table, f"label {text[:40]!r} is not an integer from 0 on", line=line)
    if classes is not None and int(text) >= classes:
        raise ImageError(table, f"label {text} is not in 0..{classes - 1}", line=line)
    # Both readings of the name, so that one list means the same on every system.
    parts = {*PurePosixPath(file).parts, *PureWindowsPath(file).parts}
    if not file or ".." in parts or PurePosixPath(file).is_absolute() or PureWindowsPath(file).anchor:
        raise ImageError(table, f"file {file!r} is not a name inside the folder", line=line)
    path = folder / file
    if not path.is_file():
        raise ImageError(table, f"lists {file!r}, which is not there", line=line)
    return LabelledPhoto(file=file, path=path, label=int(text), extra=MappingProxyType(row))
