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
from nybble.images.kinds import has_photo_suffix, is_ignored, why_no_photo
from nybble.images.left_out import LeftOut, LeftOutPhoto
from nybble.quantize.data.photos import Photos
from nybble.quantize.errors import QuantizeError

_LABEL_LIMIT = 64


class ZipPhotos(Photos):
    """A zip file with a folder a class, at any common depth; files at one level only have no label.

    Raises
    ------
    QuantizeError
        Naming the file, if it is no zip file, has no photos, or is encrypted.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._opened = threading.local()
        try:
            with zipfile.ZipFile(self._path) as archive:
                entries = archive.infolist()
        except (OSError, zipfile.BadZipFile) as error:
            raise QuantizeError(f"{self._path}: cannot be read as a zip file: {error}") from error
        entries = [entry for entry in entries if not _is_hidden(entry.filename)]
        if any(entry.flag_bits & 1 for entry in entries):
            raise QuantizeError(f"{self._path}: is encrypted; unpack it first")
        files = sorted(entry.filename for entry in entries if not entry.is_dir())
        reasons = {name: self._why_no_photo(name) for name in files if not has_photo_suffix(name)}
        self.left_out = tuple(LeftOutPhoto(name, reason) for name, reason in reasons.items() if reason is not None)
        self._names = [name for name in files if reasons.get(name) is None]
        if not self._names:
            LeftOut(self.left_out).check(0)
            raise QuantizeError(f"{self._path}: holds no photos")
        parents = [PurePosixPath(name).parent for name in self._names]
        # Folders beside those of photos are classes too, also where they hold none.
        beside = {parent.parent for parent in parents}
        folders = {PurePosixPath(entry.filename) for entry in entries if entry.is_dir()}
        folders |= {PurePosixPath(photo.file).parent for photo in self.left_out}
        kinds = sorted({path.name for path in (*parents, *(path for path in folders if path.parent in beside))})
        self.classes = tuple(kinds) if len({path.name for path in parents}) > 1 else ()
        numbers = {name: label for label, name in enumerate(self.classes)}
        self._labels = [numbers.get(parent.name) for parent in parents]

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
    except (ValueError, TypeError, AttributeError) as error:
        raise QuantizeError(f"{where}: {text[:_LABEL_LIMIT]!r} gives no label; a number from 0 on is needed") from error
    return label


def _is_hidden(name: str) -> bool:
    """Hidden files and folders, what macOS adds beside each file, and files that are known to be no photos."""
    path = PurePosixPath(name)
    return is_ignored(path.name) or "__MACOSX" in path.parts
