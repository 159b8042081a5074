"""Photos of a job in a fixed order: a folder, a list, WebDataset shards, or Parquet."""

from __future__ import annotations

import hashlib
import tarfile
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from nybble.batch.errors import BatchError
from nybble.images import open_photos
from nybble.images.errors import encodable
from nybble.images.kinds import has_photo_suffix

#: Columns of Parquet files that are looked for, in this order: encoded photos, then their paths.
PHOTO_COLUMNS = ("image", "photo", "bytes", "jpg", "content")
PATH_COLUMNS = ("path", "file", "file_name", "filename")


class Photo(NamedTuple):
    """A photo: its name in the input, and its file, its content, or the reason why there is neither."""

    name: str
    source: Path | bytes | None
    reason: str = ""


class Input(ABC):
    """Photos in an order that does not change."""

    @abstractmethod
    def __len__(self) -> int:
        """How many photos there are."""

    @abstractmethod
    def photos(self, first: int, last: int) -> Iterator[Photo]:
        """Photos ``first`` to ``last - 1``, in order."""

    @abstractmethod
    def fingerprint(self) -> str:
        """A digest of names, sizes and times of all files."""


def open_input(place: Path, column: str | None = None) -> Input:
    """Open the input of a job.

    Parameters
    ----------
    place : Path
        A folder or a list of photos, a ``.tar`` or ``.parquet`` file, or a folder of such files.
    column : str, optional
        The column of Parquet files that holds photos, or their paths; by default the first of
        :data:`PHOTO_COLUMNS` and :data:`PATH_COLUMNS` that there is.

    Raises
    ------
    BatchError, ImageError
        Where there is no such file, or no photo in it.
    """
    parts = _parts(place)
    suffix = parts[0].suffix.lower() if parts else ""
    if suffix == ".parquet":
        return ParquetInput(parts, column)
    if column is not None:
        raise BatchError(f"{place}: --column names a column of Parquet files, and this is not one")
    return TarInput(parts) if suffix == ".tar" else FileInput(place)


class FileInput(Input):
    """Photos of a folder or a list, as all commands open them."""

    def __init__(self, place: Path) -> None:
        found = open_photos(place)
        named = [(photo.file, photo.path) for photo in found]
        # Files that turn out not to be photos have a row, too.
        left_out = [(file, place / file) for file, _ in found.left_out] if place.is_dir() else []
        self._files = sorted([*named, *left_out]) if left_out else named

    def __len__(self) -> int:
        return len(self._files)

    def photos(self, first: int, last: int) -> Iterator[Photo]:
        """The files, which are read when they are decoded."""
        return (Photo(name, path) for name, path in self._files[first:last])

    def fingerprint(self) -> str:
        """Of every photo's name, size and time."""
        digest = hashlib.sha256()
        for name, path in self._files:
            digest.update(_about(name, path))
        return digest.hexdigest()


class TarInput(Input):
    """The photos of tar files, in the order in which they lie there.

    Members are read by their place in the file; nothing is unpacked.
    """

    def __init__(self, shards: Sequence[Path]) -> None:
        self._shards = shards
        self._photos: list[tuple[int, str, int, int]] = []
        for number, shard in enumerate(shards):
            try:
                with tarfile.open(shard, "r:") as archive:
                    self._photos += [
                        (number, encodable(member.name), member.offset_data, member.size)
                        for member in archive
                        if member.isfile() and not member.issparse() and has_photo_suffix(member.name)
                    ]
            except (tarfile.TarError, OSError) as error:
                raise BatchError(f"{shard}: cannot be read as an uncompressed tar file: {error}") from error
        if not self._photos:
            raise BatchError(f"{shards[0]}: holds no photos; expected members such as 000001.jpg")

    def __len__(self) -> int:
        return len(self._photos)

    def photos(self, first: int, last: int) -> Iterator[Photo]:
        """The content of each member."""
        number, file = -1, None
        try:
            for shard, name, offset, size in self._photos[first:last]:
                if shard != number:
                    if file is not None:
                        file.close()
                    number, file = shard, self._shards[shard].open("rb")
                assert file is not None  # noqa: S101
                file.seek(offset)
                content = file.read(size)
                label = f"{self._shards[shard].name}/{name}"
                yield Photo(label, content) if len(content) == size else Photo(label, None, "the tar file ends early")
        finally:
            if file is not None:
                file.close()

    def fingerprint(self) -> str:
        """Of every tar file's name, size and time."""
        return _fingerprint(self._shards)


class ParquetInput(Input):
    """A column of Parquet files: encoded photos, structures of ``bytes`` and ``path``, or paths of photos."""

    def __init__(self, parts: Sequence[Path], column: str | None) -> None:
        import pyarrow as arrow
        import pyarrow.parquet as parquet

        self._parts = parts
        try:
            schemas = [parquet.read_schema(part) for part in parts]
            counts = [parquet.read_metadata(part).num_rows for part in parts]
        except (arrow.ArrowException, OSError) as error:
            raise BatchError(f"{parts[0].parent}: cannot be read as Parquet: {error}") from error
        self._column = column or next((name for name in PHOTO_COLUMNS + PATH_COLUMNS if name in schemas[0].names), "")
        for part, schema in zip(parts, schemas, strict=True):
            if self._column not in schema.names:
                raise BatchError(
                    f"{part}: has no column {self._column or PHOTO_COLUMNS[0]!r}, but {', '.join(schema.names)}; "
                    "--column names the one that holds photos or their paths"
                )
        # The number of the first row of each part, and the total.
        self._starts = [sum(counts[:index]) for index in range(len(counts) + 1)]
        if not self._starts[-1]:
            raise BatchError(f"{parts[0]}: has no rows")

    def __len__(self) -> int:
        count: int = self._starts[-1]
        return count

    def photos(self, first: int, last: int) -> Iterator[Photo]:
        """The values of the column, read by group of rows."""
        for part, start, end in zip(self._parts, self._starts, self._starts[1:], strict=False):
            if start < last and end > first:
                rows = self._rows(part, max(first - start, 0), min(last, end) - start)
                with closing(rows):
                    yield from rows

    def fingerprint(self) -> str:
        """Of every Parquet file's name, size and time, and the column."""
        return hashlib.sha256(f"{_fingerprint(self._parts)} {self._column}".encode()).hexdigest()

    def _rows(self, part: Path, first: int, last: int) -> Generator[Photo, None, None]:
        import pyarrow as arrow
        import pyarrow.parquet as parquet

        try:
            with parquet.ParquetFile(part) as file:
                start = 0
                for group in range(file.num_row_groups):
                    count = file.metadata.row_group(group).num_rows
                    if start < last and start + count > first:
                        column = file.read_row_group(group, columns=[self._column]).column(0)
                        for row in range(max(first - start, 0), min(last - start, count)):
                            yield self._photo(part, start + row, column[row].as_py())
                    start += count
        except (arrow.ArrowException, OSError) as error:
            raise BatchError(f"{part}: cannot be read: {error}") from error

    def _photo(self, part: Path, row: int, value: Any) -> Photo:
        name = f"{part.name}#{row}"
        if isinstance(value, dict):
            path, value = value.get("path"), value.get("bytes") or value.get("path")
            name = f"{name} {path}" if isinstance(path, str) else name
        if isinstance(value, bytes):
            return Photo(name, value)
        if isinstance(value, str):
            return Photo(value, part.parent / value)
        return Photo(name, None, "the column holds neither bytes nor a path")


def _parts(place: Path) -> list[Path]:
    """The tar or Parquet files that are meant, in order of name; none where photos are files of their own."""
    if place.is_file():
        return [place] if place.suffix.lower() in (".tar", ".parquet") else []
    if not place.is_dir():
        raise BatchError(f"{place}: there is no such file or folder")
    for suffix in (".tar", ".parquet"):
        found = sorted(entry for entry in place.iterdir() if entry.suffix.lower() == suffix and entry.is_file())
        if found:
            return found
    return []


def _fingerprint(paths: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(_about(path.name, path))
    return digest.hexdigest()


def _about(name: str, path: Path) -> bytes:
    try:
        status = path.stat()
        known = f"{status.st_size} {status.st_mtime_ns}"
    except OSError:
        known = "absent"
    return f"{name}\0{known}\n".encode("utf-8", "surrogateescape")
