"""Lists of photos: a CSV file with a header, a CSV file without one, or lines of a file and its label."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from nybble.images.errors import ImageError

#: Far above any number of classes, and safely an index.
_MAX_LABEL = 1 << 31
_DELIMITERS = (",", ";", "\t")


class Row(NamedTuple):
    """A photo as a list has it.

    Attributes
    ----------
    file : str
        As written there.
    label : int, str or None
        A number, the name of a class, or nothing.
    line : int
        Counted from 1.
    extra : mapping
        The other columns.
    """

    file: str
    label: int | str | None
    line: int
    extra: Mapping[str, str] = MappingProxyType({})


def read_rows(path: Path, *, headed: bool = False, exists: Callable[[str], bool] | None = None) -> list[Row]:
    """The rows of a list, read by its suffix: ``.csv`` and ``.tsv`` as tables, any other as lines.

    A table's header has ``file`` and, optionally, ``label``; without a header its columns are these two. A line is a
    file and, after white space or a tab, its label.

    Parameters
    ----------
    path : Path
    headed : bool
        Whether there must be a header with ``file`` and ``label``.
    exists : callable, optional
        Tells of a name whether it is a file: then a line may be one file whose name has spaces. Without it each line
        must have a label.

    Raises
    ------
    ImageError
        Naming the file and the line.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            text = file.read()
    except OSError as error:
        remedy = "; a folder of photos needs it, with columns file,label" if headed else ""
        raise ImageError(path, f"cannot be read: {error.strerror or error}{remedy}") from error
    except UnicodeDecodeError as error:
        raise ImageError(path, f"is not UTF-8 (byte {error.start}); save it as UTF-8") from error
    if headed or path.suffix.lower() in (".csv", ".tsv"):
        rows = _table(path, text, headed)
    else:
        rows = list(_lines(path, io.StringIO(text), exists))
    if not rows:
        raise ImageError(path, "lists no photos")
    return rows


def _table(path: Path, text: str, headed: bool) -> list[Row]:
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = _delimiter(first, headed)
    cells = [cell.strip() for cell in next(csv.reader([first], delimiter=delimiter), [])]
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
    rows: list[Row] = []
    header: list[str] = []
    if not headed and "file" not in cells:
        header = ["file", "label"][: len(cells)]
        if len(cells) > 2:
            raise ImageError(path, f"has no header file,label, but {len(cells)} columns", line=1)
    try:
        for values in reader:
            line = reader.line_num
            if not values:
                continue
            if not header:
                header = _header(path, line, values, headed)
                continue
            if len(values) != len(header):
                raise ImageError(path, f"has {len(values)} cells under {len(header)} columns", line=line)
            row = dict(zip(header, values, strict=True))
            file, label = row.pop("file"), row.pop("label", "")
            rows.append(Row(file, _label(path, line, label), line, MappingProxyType(row)))
    except csv.Error as error:
        raise ImageError(path, f"is not CSV: {error}", line=reader.line_num) from error
    return rows


def _delimiter(first: str, headed: bool) -> str:
    """The delimiter under which the first line is a header, else the only one in it; a comma where it is unclear."""
    wanted = {"file", "label"} if headed else {"file"}
    for delimiter in _DELIMITERS:
        if wanted <= {cell.strip() for cell in next(csv.reader([first], delimiter=delimiter), [])}:
            return delimiter
    present = [delimiter for delimiter in _DELIMITERS if delimiter in first]
    return present[0] if len(present) == 1 and not headed else ","


def _header(path: Path, line: int, cells: list[str], headed: bool) -> list[str]:
    header = [cell.strip() for cell in cells]
    missing = [name for name in (("file", "label") if headed else ("file",)) if name not in header]
    if missing:
        raise ImageError(path, f"has no column {missing[0]!r}; the header must be file,label,…", line=line)
    twice = [name for name in header if header.count(name) > 1]
    if twice:
        raise ImageError(path, f"has column {twice[0]!r} twice", line=line)
    return header


def _lines(path: Path, lines: Iterable[str], exists: Callable[[str], bool] | None) -> Iterable[Row]:
    for number, text in enumerate(lines, start=1):
        line = text.strip()
        if not line:
            continue
        if exists is not None and exists(line):
            yield Row(line, None, number)
            continue
        cells = line.split("\t") if "\t" in line else line.rsplit(maxsplit=1)
        if len(cells) == 2 and (exists is None or exists(cells[0].strip()) or cells[1].strip().isdigit()):
            yield Row(cells[0].strip(), _label(path, number, cells[1]), number)
        elif exists is not None:
            yield Row(line, None, number)
        else:
            raise ImageError(path, f"expected 'file label', got {line[:60]!r}", line=number)


def _label(path: Path, line: int, text: str) -> int | str | None:
    label = text.strip()
    if label.isascii() and label.isdigit() and len(label) < 20 and int(label) < _MAX_LABEL:
        return int(label)
    if not label:
        return None
    try:
        float(label)
    except ValueError:
        return label
    raise ImageError(path, f"label {label[:40]!r} is not an integer from 0 on", line=line)
