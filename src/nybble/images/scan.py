"""Photos in folders, with the names of class folders."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from nybble.images.errors import ImageError, encodable
from nybble.images.kinds import has_photo_suffix, is_ignored, why_no_photo
from nybble.images.left_out import LeftOutPhoto


class Scan(NamedTuple):
    """What a folder holds.

    Attributes
    ----------
    files : list of (str, str or None)
        Path relative to the folder, and the class folder that the photo is in; in order of name.
    classes : tuple of str
        Names of all class folders in order, also of those without photos; empty for photos without labels.
    left_out : list of LeftOutPhoto
        Files that are no photos, though nothing about their names says so.
    """

    files: list[tuple[str, str | None]]
    classes: tuple[str, ...]
    left_out: list[LeftOutPhoto]


def scan(root: Path) -> Scan:
    """Find the photos of a folder: a folder a class, at any depth below it; or, without such folders, no labels.

    Raises
    ------
    ImageError
        Where a folder cannot be read.
    """
    folders, loose = _listing(root, "")
    left_out: list[LeftOutPhoto] = []
    files = [(name, folder) for folder in folders for name in _walk(root, folder) if _is_photo(root, name, left_out)]
    stray = [name for name in loose if _is_photo(root, name, left_out)]
    if not files:
        return Scan([(name, None) for name in stray], (), left_out)
    # torchvision passes over these in silence.
    left_out += [LeftOutPhoto(encodable(name), "lies beside the class folders, so it has no class") for name in stray]
    return Scan([(name, folder) for name, folder in files], tuple(folders), left_out)


def _walk(root: Path, top: str) -> Iterator[str]:
    """Files below a folder; a folder that links lead to again is read once."""
    waiting, seen = [top], {_identity(root / top)}
    while waiting:
        folder = waiting.pop()
        folders, files = _listing(root, folder)
        yield from (f"{folder}/{name}" for name in files)
        for name in reversed(folders):
            identity = _identity(root / folder / name)
            if identity not in seen:
                seen.add(identity)
                waiting.append(f"{folder}/{name}")


def _listing(root: Path, folder: str) -> tuple[list[str], list[str]]:
    """Names of the folders and of the other entries, each in order, hidden and known ones left away."""
    folders: list[str] = []
    files: list[str] = []
    place = root / folder
    try:
        with os.scandir(place) as entries:
            for entry in entries:
                if entry.is_dir():
                    if not entry.name.startswith(".") and entry.name != "__MACOSX":
                        folders.append(entry.name)
                elif not is_ignored(entry.name):
                    files.append(entry.name)
    except OSError as error:
        raise ImageError(place, f"cannot be read: {error.strerror or error}") from error
    return sorted(folders), sorted(files)


def _identity(folder: Path) -> tuple[int, int]:
    about = folder.stat()
    return about.st_dev, about.st_ino


def _is_photo(root: Path, name: str, left_out: list[LeftOutPhoto]) -> bool:
    path = root / name
    if not path.is_file():
        reason: str | None = "is a link to nothing" if path.is_symlink() else "is not a regular file"
    elif has_photo_suffix(name):
        return True
    else:
        reason = why_no_photo(str(path))
    if reason is not None:
        left_out.append(LeftOutPhoto(encodable(name), reason))
    return reason is None
