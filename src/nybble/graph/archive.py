"""A model directory packed into one file: a zip archive with the same names, read in place (docs/format.md)."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from nybble.graph.errors import ModelFormatError
from nybble.graph.folder import ROOT, ModelFolder
from nybble.graph.tensor import CHANGED, Tensor, stamp_of
from nybble.graph.types import DType

# Imported where an archive is read or written: most models are folders.
if TYPE_CHECKING:
    import zipfile

#: Most bytes that all files of an archive may unpack to: a number per byte of the archive, plus a constant.
MOST_UNPACKED = (100, 4 << 20)
#: How a zip archive with entries begins.
_MAGIC = b"PK\x03\x04"
#: Compression methods that can be unpacked in pieces of bounded size, by their numbers in zip files.
_STORED, _DEFLATED = 0, 8
#: The first date that a zip archive can name: equal models give equal archives.
_DATE = (1980, 1, 1, 0, 0, 0)
#: Files beside ``model/`` that are packed too, by the beginnings of their names.
_BESIDE = ("readme", "license", "licence", "notice")


def is_archive(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a regular file that begins as a zip archive does."""
    try:
        place = Path(path)
        if not stat.S_ISREG(place.stat().st_mode):
            return False
        with place.open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except (OSError, ValueError):
        return False


def holds_model(path: str | os.PathLike[str]) -> bool:
    """Whether a path is an archive with a model in it, unlike other zip files such as those of PyTorch."""
    if not is_archive(path):
        return False
    try:
        ModelArchive(path)
    except ModelFormatError:
        return False
    return True


class ModelArchive(ModelFolder):
    """The folder ``model/`` of an archive. Nothing is unpacked to the disk.

    Raises
    ------
    ModelFormatError
        If the file is no such archive, holds no model, or unpacks to more than :data:`MOST_UNPACKED` allows.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._archive = Path(path)
        super().__init__(self._archive / ROOT)

    def _find(self, given: Path) -> None:
        import zipfile

        self.path = given
        try:
            self._file = _File(self._archive)
            self._zip = zipfile.ZipFile(io.BufferedReader(self._file))
            entries = self._zip.infolist()
        except Exception as error:  # zipfile passes on any exception that a damaged file causes.
            raise ModelFormatError(self._archive, f"cannot be read as a zip archive: {_reason(error)}") from error
        self._entries = {entry.filename: entry for entry in entries if not entry.filename.endswith("/")}
        self._check(entries)

    def has(self, name: str) -> bool:
        """Whether the archive has a file of that name in ``model/``."""
        return f"{ROOT}/{name}" in self._entries

    def _check(self, entries: list[zipfile.ZipInfo]) -> None:
        if len({entry.filename for entry in entries}) != len(entries):
            raise ModelFormatError(self._archive, "has two files of one name")
        if f"{ROOT}/{ROOT}" not in self._entries:
            raise ModelFormatError(
                self._archive, f"holds no model: expected {ROOT}/{ROOT} in it; `nybble pack` writes such files"
            )
        rate, more = MOST_UNPACKED
        if sum(entry.file_size for entry in entries) > rate * self._file.stamp[0] + more:
            raise ModelFormatError(
                self._archive, f"would unpack to more than {rate} times its size; pack the folder by `nybble pack`"
            )

    def _read(self, path: Path, limit: int | None) -> bytes:
        entry = self._entry(path)
        if limit is not None and entry.file_size > limit:
            raise ModelFormatError(path, f"is larger than the {limit} bytes a text file may have")
        return self._unpacked(entry, path)

    def _tensor(self, dtype: DType, shape: tuple[int, ...], path: Path) -> Tensor:
        entry = self._entry(path)
        return Tensor.from_reader(dtype, shape, path, entry.file_size, lambda: self._unpacked(entry, path))

    def _entry(self, path: Path) -> zipfile.ZipInfo:
        entry = self._entries.get(path.relative_to(self._archive).as_posix())
        if entry is None:
            raise ModelFormatError(path, "is missing")
        if entry.compress_type not in (_STORED, _DEFLATED) or entry.flag_bits & 1:
            raise ModelFormatError(path, "is encrypted or compressed in a way other than deflate; pack it anew")
        return entry

    def _unpacked(self, entry: zipfile.ZipInfo, path: Path) -> bytes:
        try:
            with self._zip.open(entry) as file:
                # One byte more: at the end of its data zipfile compares the checksum.
                raw = file.read(entry.file_size + 1)
        except Exception as error:  # As above.
            raise ModelFormatError(path, f"cannot be unpacked: {_reason(error)}") from error
        if len(raw) != entry.file_size or not self._file.is_unchanged():
            raise ModelFormatError(path, CHANGED)
        return raw


def packed(path: str | os.PathLike[str]) -> bytes:
    """A model directory as an archive: ``model/``, and a card, licence or notice beside it.

    Parameters
    ----------
    path : path
        The folder that contains ``model/``, or ``model/`` itself; then nothing beside it is packed.

    Returns
    -------
    bytes
        A zip archive: the same bytes for the same files.

    Raises
    ------
    ModelFormatError
        If there is no model, or a file in it cannot be read.
    """
    given = Path(path)
    folder = ModelFolder(given)
    files = {f"{ROOT}/{name}": folder.raw(name) for name in folder.files()}
    if folder.path != given:
        for entry in sorted(given.iterdir()):
            if entry.name.lower().startswith(_BESIDE) and entry.is_file():
                files[entry.name] = entry.read_bytes()
    archive = _zipped(files, _DEFLATED)
    rate, more = MOST_UNPACKED
    if sum(map(len, files.values())) > rate * len(archive) + more:
        return _zipped(files, _STORED)
    return archive


def _zipped(files: dict[str, bytes], how: int) -> bytes:
    import zipfile

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in sorted(files.items()):
            entry = zipfile.ZipInfo(name, _DATE)
            entry.compress_type = how
            entry.create_system = 3
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(entry, content)
    return buffer.getvalue()


class _File(io.RawIOBase):
    """A file with its own position, so that a forked process and its parent do not move each other's."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        # Without O_NONBLOCK, opening a pipe that nobody writes to would hang.
        self._descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self._position = 0
        status = os.fstat(self._descriptor)
        self.stamp = stamp_of(status)
        if not stat.S_ISREG(status.st_mode):
            raise OSError("it is not a regular file")

    def is_unchanged(self) -> bool:
        """Whether the file still has the size and the time of change that it had when it was opened."""
        return stamp_of(os.fstat(self._descriptor)) == self.stamp

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.stamp[0]}[whence]
        if start + offset < 0:
            raise OSError("an offset lies before the file")
        self._position = start + offset
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        count = os.preadv(self._descriptor, [buffer], self._position)
        self._position += count
        return count

    def close(self) -> None:
        if not self.closed and hasattr(self, "_descriptor"):
            os.close(self._descriptor)
        super().close()


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
