"""Photos in a zip file, and in WebDataset shards (tar files)."""

from __future__ import annotations

import json
import os
import tarfile
import threading
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from nybble.graph.types import Array
from nybble.images.collection import warn_of_empty
from nybble.images.kinds import has_photo_suffix, is_ignored, why_no_photo
from nybble.images.left_out import LeftOut, LeftOutPhoto
from nybble.images.scan import BESIDE
from nybble.quantize.data.photos import Photos
from nybble.quantize.errors import QuantizeError

_LABEL_LIMIT = 64
_TOP = PurePosixPath()


class ZipPhotos(Photos):
    """A zip file with a folder per class, as the same folders would be read once unpacked.

    Folders that hold nothing but one other folder are passed over. Photos without class folders have no label.

    Raises
    ------
    QuantizeError
        Naming the file, if it is not a zip file, has no photos, or is encrypted.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._opened = threading.local()
        try:
            with zipfile.ZipFile(self._path) as archive:
                entries = archive.infolist()
        except (OSError, zipfile.BadZipFile) as error:
            raise QuantizeError(f"{self._path}: cannot be read as a zip file: {error}") from error
        entries = [entry for entry in entries if not _is_hidden(PurePosixPath(entry.filename))]
        if any(entry.flag_bits & 1 for entry in entries):
            raise QuantizeError(f"{self._path}: is encrypted; unpack it first")
        files = sorted(entry.filename for entry in entries if not entry.is_dir())
        root, kinds = _class_folders(files, [entry.filename for entry in entries if entry.is_dir()])
        files = [name for name in files if not is_ignored(PurePosixPath(name).name)]
        reasons = {name: self._why_no_photo(name) for name in files if not has_photo_suffix(name)}
        left_out = [LeftOutPhoto(name, reason) for name, reason in reasons.items() if reason is not None]
        names = [name for name in files if reasons.get(name) is None]
        if not names:
            LeftOut(left_out).check(0)
            raise QuantizeError(f"{self._path}: holds no photos")
        depth = len(root.parts)
        folders = {
            name: PurePosixPath(name).parts[depth] for name in names if len(PurePosixPath(name).parts) > depth + 1
        }
        if folders:
            left_out += [LeftOutPhoto(name, BESIDE) for name in names if name not in folders]
            names = list(folders)
            warn_of_empty(self._path, sorted(set(kinds) - set(folders.values())))
        self.left_out = tuple(left_out)
        self.classes = tuple(kinds) if folders else ()
        numbers = {name: label for label, name in enumerate(self.classes)}
        self._names = names
        self._labels = [numbers[folders[name]] if folders else None for name in names]

    def __len__(self) -> int:
        return len(self._names)

    def name(self, index: int) -> str:
        """Name of a photo."""
        return self._names[index]

    def label(self, index: int) -> int | None:
        """Class of a photo."""
        return self._labels[index]

    def read(self, index: int) -> bytes | Array:
        """A photo's content."""
        try:
            return self._archive().read(self._names[index])
        except (zipfile.BadZipFile, NotImplementedError, EOFError, ValueError) as error:
            raise OSError(f"cannot be unpacked: {error}") from error

    def _why_no_photo(self, name: str) -> str | None:
        try:
            return why_no_photo(self._archive().read(name))
        except (zipfile.BadZipFile, NotImplementedError, EOFError, ValueError, OSError) as error:
            return f"cannot be unpacked: {error}"

    def _archive(self) -> zipfile.ZipFile:
        """An open archive of this thread and process: they would move each other's file position."""
        if getattr(self._opened, "process", None) != os.getpid():
            self._opened.archive = zipfile.ZipFile(self._path)
            self._opened.process = os.getpid()
        archive: zipfile.ZipFile = self._opened.archive
        return archive

    def __getstate__(self) -> dict[str, object]:
        """For worker processes that are not forked: everything but the open files."""
        return {name: value for name, value in vars(self).items() if name != "_opened"}

    def __setstate__(self, state: dict[str, object]) -> None:
        vars(self).update(state)
        self._opened = threading.local()


def _class_folders(files: Sequence[str], folders: Sequence[str]) -> tuple[PurePosixPath, list[str]]:
    """The folder that holds the class folders, and their names in order."""
    known = {PurePosixPath(name) for name in folders}
    known |= {parent for path in (*known, *map(PurePosixPath, files)) for parent in path.parents}
    inside: dict[PurePosixPath, list[PurePosixPath]] = {path: [] for path in known}
    for path in known - {_TOP}:
        inside[path.parent].append(path)
    occupied = {PurePosixPath(name).parent for name in files if not is_ignored(PurePosixPath(name).name)}
    root = _TOP
    while len(inside[root]) == 1 and root not in occupied:
        root = inside[root][0]
    return root, sorted(path.name for path in inside[root])


class _Member(NamedTuple):
    shard: int
    name: str
    offset: int
    size: int
    label: int | None


class ShardPhotos(Photos):
    """WebDataset shards: tar files whose members with one name up to its first dot make up one example.

    An example is a photo (``KEY.jpg`` and the like) with its label in ``KEY.cls`` (a number) or in ``KEY.json``
    (``{"label": number}``); without either it has none. Shards are indexed once when opened, then read by position, so
    that photos can be drawn in any order. Compressed shards cannot be read that way and are refused: photos are
    compressed themselves.

    Raises
    ------
    QuantizeError
        Naming the shard, if it is no plain tar file or a label cannot be read, or if there are no photos at all.
    """

    def __init__(self, shards: Sequence[str | Path]) -> None:
        self._paths = [Path(shard) for shard in shards]
        self._members = [member for number, path in enumerate(self._paths) for member in _index(number, path)]
        if not self._members:
            raise QuantizeError(f"{', '.join(map(str, self._paths[:3]))}: no photos in {len(self._paths)} shards")

    def __len__(self) -> int:
        return len(self._members)

    def name(self, index: int) -> str:
        """Name of a photo."""
        member = self._members[index]
        return f"{self._paths[member.shard].name}/{member.name}"

    def label(self, index: int) -> int | None:
        """Class of a photo."""
        return self._members[index].label

    def read(self, index: int) -> bytes | Array:
        """A photo's content."""
        member = self._members[index]
        with self._paths[member.shard].open("rb") as shard:
            shard.seek(member.offset)
            return shard.read(member.size)


def _index(number: int, path: Path) -> Iterator[_Member]:
    photos: dict[str, tarfile.TarInfo] = {}
    labels: dict[str, int | None] = {}
    try:
        with tarfile.open(path, "r:") as shard:
            for member in shard:
                folder, _, file = member.name.rpartition("/")
                stem, dot, extension = file.partition(".")
                key = f"{folder}/{stem}"
                if not member.isfile() or not stem or not dot:
                    continue
                if has_photo_suffix(f"photo.{extension}"):
                    photos[key] = member
                elif extension in ("cls", "json"):
                    # A member that can be read has content.
                    content = shard.extractfile(member)
                    text = content.read() if content is not None else b""
                    labels[key] = _label(f"{path}: {member.name}", extension, text, labels.get(key))
    except (tarfile.TarError, OSError) as error:
        raise QuantizeError(
            f"{path}: cannot be read as a tar file: {error}. A compressed shard has to be unpacked (gunzip) first"
        ) from error
    for key, member in photos.items():
        yield _Member(number, member.name, member.offset_data, member.size, labels.get(key))


def _label(where: str, extension: str, text: bytes, known: int | None) -> int | None:
    try:
        if extension == "json":
            # One without a label says nothing.
            value = json.loads(text).get("label", known)
            label = None if value is None else int(value)
        else:
            label = int(text[:_LABEL_LIMIT])
        if label is not None and label < 0:
            raise ValueError(label)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise QuantizeError(
            f"{where}: {text[:_LABEL_LIMIT]!r} gives no label; a non-negative integer is needed"
        ) from error
    return label


def _is_hidden(path: PurePosixPath) -> bool:
    """Whether a file or folder is hidden, lies in a hidden folder, or is what macOS adds beside each file."""
    return any(part.startswith(".") or part == "__MACOSX" for part in path.parts)
