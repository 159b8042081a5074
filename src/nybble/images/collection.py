"""Photos of a folder or a list, with their labels, if any. Every command opens photos here."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import MappingProxyType
from typing import overload

from nybble.images.errors import ImageError, ImageWarning, encodable, printable, some
from nybble.images.kinds import has_photo_suffix
from nybble.images.left_out import LeftOut, LeftOutPhoto
from nybble.images.listing import Row, read_rows
from nybble.images.names import match_classes
from nybble.images.scan import scan

#: Lists that a folder may have; the first that exists is used.
LABELS, VAL_MAP = "labels.csv", "val_map.txt"
_ARCHIVES = (".zip", ".tar")


@dataclass(frozen=True)
class PhotoFile:
    """A photo of a collection.

    Attributes
    ----------
    file : str
        Its name as in the list, or relative to the folder.
    path : Path
    label : int or None
        Its class, if known.
    extra : mapping of str to str
        Other columns of the list.
    line : int or None
        Its line in the list.
    """

    file: str
    path: Path
    label: int | None = None
    extra: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    line: int | None = field(default=None, compare=False)


class PhotoFiles(Sequence[PhotoFile]):
    """Photos in a fixed order.

    Attributes
    ----------
    path : Path
        The folder or the list that was opened.
    classes : tuple of str
        Names of the classes, where labels were given by name; empty where labels are numbers or absent.
    left_out : tuple of LeftOutPhoto
        Files of the folder that are not photos, or are beside class folders and so have no class.
    """

    def __init__(
        self,
        path: Path,
        photos: Sequence[PhotoFile],
        classes: Sequence[str] = (),
        left_out: Sequence[LeftOutPhoto] = (),
    ) -> None:
        self.path = path
        self.classes = tuple(classes)
        self.left_out = tuple(left_out)
        self._photos = tuple(photos)

    @overload
    def __getitem__(self, index: int) -> PhotoFile: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[PhotoFile]: ...

    def __getitem__(self, index: int | slice) -> PhotoFile | Sequence[PhotoFile]:
        return self._photos[index]

    def __len__(self) -> int:
        return len(self._photos)

    @property
    def labelled(self) -> bool:
        """Whether every photo has a label."""
        return all(photo.label is not None for photo in self._photos)


def open_photos(
    path: str | Path,
    limit: int | None = None,
    *,
    classes: int | Sequence[str] | None = None,
    labels: bool = False,
    root: str | Path | None = None,
) -> PhotoFiles:
    """Open the photos of a folder or a list.

    =====================================  ==============================================================
    a folder with ``labels.csv``           the photos it lists; columns ``file`` and ``label``
    a folder with ``val_map.txt``          the photos it lists, one per line: file and label
    any other folder with folders          one folder per class, photos at any depth; classes in order of name
    any other folder                       its photos, without labels
    a ``.csv`` or ``.tsv`` file            the photos it lists; with a header, or columns of file and label
    any other file                         one photo per line, with or without a label behind it
    =====================================  ==============================================================

    A label is a non-negative integer, or the name of a class. Names are looked up in ``classes``. If ``classes``
    contains none of them, they are numbered in order of name, as torchvision numbers class folders. A file is a photo
    if its suffix is one that Pillow reads or, for an unknown suffix, if its content is. Hidden files and files of other
    known types, such as ``.txt``, are passed over.

    Parameters
    ----------
    path : str or Path
    limit : int, optional
        Use only the first photos; of class folders, the first of each class in turn.
    classes : int or sequence of str, optional
        The number or the names of the network's classes, which labels are mapped to.
    labels : bool
        Whether every photo must have a label.
    root : str or Path, optional
        The folder that the names of a list are relative to and must be in; by default the list's own folder.

    Returns
    -------
    PhotoFiles

    Raises
    ------
    ImageError
        Naming the file and the line: the path does not exist, no photo is found, a list, row or label is invalid, or
        labels are required and are missing or not those of the network.

    Warns
    -----
    ImageWarning
        Where class folders are empty, or do not match the network and labels are not required.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1, got {limit}")
    place = Path(path)
    try:
        found = _opened(place, None if root is None else Path(root), limit)
    except OSError as error:
        raise ImageError(place, f"cannot be read: {error.strerror or error}") from error
    if found.names:
        resolved = _named(found, classes, needed=labels)
    else:
        resolved = found.photos
        count = classes if isinstance(classes, int) or classes is None else len(classes)
        for photo in resolved:
            if photo.label is not None and count is not None and photo.label >= count:
                raise ImageError(found.table, f"label {photo.label} is not in 0..{count - 1}", line=photo.line)
    if labels:
        _check_labelled(found.table, resolved)
    return PhotoFiles(place, resolved, found.names, found.left_out)


@dataclass(frozen=True)
class _Found:
    """Photos before their labels are mapped to the network's; ``names`` are those of all classes, by label."""

    table: Path
    photos: Sequence[PhotoFile]
    names: tuple[str, ...] = ()
    left_out: Sequence[LeftOutPhoto] = ()


def list_in(folder: Path) -> Path | None:
    """The list of photos that a folder has, if any."""
    return next((folder / name for name in (LABELS, VAL_MAP) if (folder / name).is_file()), None)


def _opened(place: Path, root: Path | None, limit: int | None) -> _Found:
    if place.is_dir():
        table = list_in(place)
        return _scanned(place, limit) if table is None else _listed(table, place, limit, inside=True)
    if not place.exists():
        raise ImageError(place, "there is no such file or folder")
    if place.suffix.lower() in _ARCHIVES:
        raise ImageError(place, "is an archive, which only `nybble quantize` reads; unpack it")
    if not place.is_file():
        raise ImageError(place, "is neither a folder nor a file")
    if has_photo_suffix(place.name):
        raise ImageError(place, "is a photo; give its folder, or a list of photos")
    return _listed(place, root or place.parent, limit, inside=root is not None)


def _scanned(folder: Path, limit: int | None) -> _Found:
    found = scan(folder)
    if not found.files:
        # Where all files were left out, say why.
        LeftOut(found.left_out).check(0)
        raise ImageError(folder, "holds no photos; expected photos, one folder per class, or a labels.csv")
    numbers = {name: label for label, name in enumerate(found.classes)}
    empty = sorted(numbers.keys() - {kind for _, kind in found.files})
    warn_of_empty(folder, empty)
    photos = [
        PhotoFile(encodable(name), folder / name, None if kind is None else numbers[kind])
        for name, kind in _first(found.files, limit)
    ]
    return _Found(folder, photos, tuple(encodable(name) for name in found.classes), found.left_out)


def warn_of_empty(place: Path, empty: Sequence[str]) -> None:
    """Warn of class folders without photos, if there are any: they keep their numbers."""
    if empty:
        warnings.warn(
            f"{printable(str(place))}: no photos in {some(empty)}; they still count as classes",
            ImageWarning,
            stacklevel=5,
        )


def _first(files: Sequence[tuple[str, str | None]], limit: int | None) -> Sequence[tuple[str, str | None]]:
    """The first ``limit`` files; of class folders the first of each in turn, else they would all be of one class."""
    if limit is None or limit >= len(files):
        return files
    turns: Counter[str | None] = Counter()
    ranked: list[tuple[int, int]] = []
    for place, (_, kind) in enumerate(files):
        ranked.append((turns[kind] if kind is not None else 0, place))
        turns[kind] += 1
    return [files[place] for place in sorted(place for _, place in sorted(ranked)[:limit])]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # For example, the name is too long.
        return False


def _listed(table: Path, folder: Path, limit: int | None, *, inside: bool) -> _Found:
    rows = read_rows(table, headed=table.name == LABELS and inside, exists=lambda name: _is_file(folder / name))
    names = tuple(sorted({row.label for row in rows if isinstance(row.label, str)}))
    found = located(table, folder, rows[:limit], inside=inside)
    mixed = next((row for row in rows if isinstance(row.label, int)), None) if names else None
    if mixed is not None:
        raise ImageError(
            table, f"label {mixed.label} is a number, but others are names such as {names[0]!r}", line=mixed.line
        )
    numbers = {name: label for label, name in enumerate(names)}
    photos = [
        replace(photo, label=numbers[row.label] if isinstance(row.label, str) else row.label)
        for row, photo in zip(rows[:limit], found, strict=True)
    ]
    return _Found(table, photos, names)


def located(table: Path, folder: Path, rows: Sequence[Row], *, inside: bool) -> list[PhotoFile]:
    """Find the photos of a list's rows, without labels; ``inside`` restricts them to the folder."""
    photos: list[PhotoFile] = []
    seen: dict[str, int] = {}
    for row in rows:
        if inside or not row.file:
            # Read as a POSIX and as a Windows path, so that a list means the same on every system.
            posix, windows = PurePosixPath(row.file), PureWindowsPath(row.file)
            if not row.file or ".." in {*posix.parts, *windows.parts} or posix.is_absolute() or windows.anchor:
                raise ImageError(table, f"file {row.file!r} is not inside the folder", line=row.line)
        path = folder / row.file
        if not _is_file(path):
            where = "there" if folder == table.parent else f"in {printable(str(folder))}"
            raise ImageError(table, f"lists {row.file[:200]!r}, which is not {where}", line=row.line)
        key = os.path.normpath(path)
        if key in seen:
            raise ImageError(table, f"lists {row.file!r} again, first in line {seen[key]}", line=row.line)
        seen[key] = row.line
        photos.append(PhotoFile(row.file, path, extra=row.extra, line=row.line))
    return photos


def _named(found: _Found, classes: int | Sequence[str] | None, *, needed: bool) -> Sequence[PhotoFile]:
    """Photos with the network's labels in place of names; without labels where the names do not match."""
    numbers = list(range(len(found.names))) if classes is None else match_classes(found.names, classes)
    if isinstance(numbers, str):
        if needed:
            raise ImageError(found.table, numbers)
        warnings.warn(f"{found.table}: {numbers}; labels are not used", ImageWarning, stacklevel=3)
        return [replace(photo, label=None) for photo in found.photos]
    if isinstance(classes, int) or classes is None or found.names[0] not in classes:
        _warn_of_numbers(found)
    if numbers == list(range(len(numbers))):
        return found.photos
    return [photo if photo.label is None else replace(photo, label=numbers[photo.label]) for photo in found.photos]


def _warn_of_numbers(found: _Found) -> None:
    """Warn where names look like numbers and are not in numeric order: 10 is before 9."""
    if not all(name.isascii() and name.isdecimal() for name in found.names):
        return
    values = [int(name) for name in found.names]
    if values != sorted(values):
        place = next(place for place, value in enumerate(values) if value != sorted(values)[place])
        warnings.warn(
            f"{found.table}: classes named by numbers are taken in order of name, as torchvision does, so "
            f"{found.names[place]!r} is class {place}; use a labels.csv to number them otherwise",
            ImageWarning,
            stacklevel=4,
        )


def _check_labelled(table: Path, photos: Sequence[PhotoFile]) -> None:
    without = next((photo for photo in photos if photo.label is None), None)
    if without is not None:
        raise ImageError(
            table,
            f"{printable(without.file)} has no label, and accuracy needs one for each photo; give one folder per "
            "class, a labels.csv, or a list of lines `file label`",
            line=without.line,
        )
