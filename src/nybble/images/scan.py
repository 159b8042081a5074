"""Photos in folders, with the names of class folders."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from nybble.images.errors import ImageError, encodable
from nybble.images.kinds import has_photo_suffix, is_ignored, why_no_photo
from nybble.images.left_out import LeftOutPhoto

#: Why a photo beside class folders is left out.
BESIDE = "lies beside the class folders, so it has no class"


class Scan(NamedTuple):
    """The contents of a folder.

    Attributes
    ----------
    files : list of (str, str or None)
        Path relative to the folder, and the name of the photo's class folder; in order of name.
    classes : tuple of str
        Names of all class folders in order, including those without photos; empty for photos without labels.
    left_out : list of LeftOutPhoto
        Files that are not photos, although their names do not show it.
    """

    files: list[tuple[str, str | None]]
    classes: tuple[str, ...]
    left_out: list[LeftOutPhoto]


def scan(root: Path) -> Scan:
    """Find the photos of a folder: one folder per class, photos at any depth; without class folders, no labels.

    Raises
    ------
    ImageError
        Where a folder cannot be read.
    """
    folders, loose = _listing(root, "")
    left_out: list[LeftOutPhoto] = []
    files = [
        (name, folder)
        for folder in folders
        for name, regular in _walk(root, folder)
        if _is_photo(root, name, regular, left_out)
    ]
    stray = [name for name, regular in loose if _is_photo(root, name, regular, left_out)]
    if not files:
        return Scan([(name, None) for name in stray], (), left_out)
    # torchvision passes over these silently.
    left_out += [LeftOutPhoto(encodable(name), BESIDE) for name in stray]
    return Scan([(name, folder) for name, folder in files], tuple(folders), left_out)


def _walk(root: Path, top: str) -> Iterator[tuple[str, bool]]:
    """Files below a folder, and whether each is a regular one; a folder that is linked repeatedly is read once."""
    waiting, seen = [top], {_identity(root / top)}
    while waiting:
        folder = waiting.pop()
        folders, files = _listing(root, folder)
        yield from ((f"{folder}/{name}", regular) for name, regular in files)
        for name in reversed(folders):
            identity = _identity(root / folder / name)
            if identity not in seen:
                seen.add(identity)
                waiting.append(f"{folder}/{name}")


def _listing(root: Path, folder: str) -> tuple[list[str], list[tuple[str, bool]]]:
    """Names of the folders; and names of the other entries, with whether they are regular files. Each in order.

    Hidden entries and files of other known types are omitted.
    """
    folders: list[str] = []
    files: list[tuple[str, bool]] = []
    place = root / folder
    try:
        with os.scandir(place) as entries:
            for entry in entries:
                if _follows(entry.is_dir):
                    if not entry.name.startswith(".") and entry.name != "__MACOSX":
                        folders.append(entry.name)
                elif not is_ignored(entry.name):
                    files.append((entry.name, _follows(entry.is_file)))
    except OSError as error:
        raise ImageError(place, f"cannot be read: {error.strerror or error}") from error
    return sorted(folders), sorted(files)


def _follows(is_kind: Callable[[], bool]) -> bool:
    """The answer for an entry; a link to itself is neither a folder nor a file."""
    try:
        return is_kind()
    except OSError:
        return False


def _identity(folder: Path) -> tuple[int, int]:
    about = folder.stat()
    return about.st_dev, about.st_ino


def _is_photo(root: Path, name: str, regular: bool, left_out: list[LeftOutPhoto]) -> bool:
    reason: str | None = None
    if not regular:
        reason = "is a broken link" if (root / name).is_symlink() else "is not a regular file"
    elif not has_photo_suffix(name):
        reason = why_no_photo(str(root / name))
    if reason is not None:
        left_out.append(LeftOutPhoto(encodable(name), reason))
    return reason is None
