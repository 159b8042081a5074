"""Files that nybble writes: whole or not at all, and never over a file of another kind."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, BinaryIO, NamedTuple

from nybble.graph.errors import NybbleError

#: Bytes of a file that tell its kind.
_HEAD = 4096


class FileError(NybbleError, OSError):
    """Raised if a file cannot be written, or must not be overwritten; the text names the file and the remedy."""


class Kind(NamedTuple):
    """A kind of file: its name with an article, and a test of whether a file's first bytes are of this kind."""

    name: str
    fits: Callable[[bytes], bool]


def _starts_with(*heads: bytes) -> Callable[[bytes], bool]:
    return lambda content: content.removeprefix(b"\xef\xbb\xbf").lstrip().lower().startswith(heads)


HTML = Kind("an HTML page", _starts_with(b"<!doctype html", b"<html"))
JSON = Kind("a JSON file", _starts_with(b"{", b"["))
TOML = Kind("the TOML file of an ensemble", lambda content: b"nybble-ensemble/" in content)
PNG = Kind("a PNG picture", lambda content: content.startswith(b"\x89PNG"))
SVG = Kind("an SVG picture", _starts_with(b"<?xml", b"<svg", b"<!doctype svg"))
ARCHIVE = Kind("a packed model", lambda content: content.startswith(b"PK\x03\x04"))
ONNX = Kind("an ONNX file", lambda content: _is_onnx(content))
# Any text may be a table; binary files are not.
_NO_TEXT = (b"\x89", b"\xff\xd8", b"PK")
CSV = Kind("a text table", lambda content: b"\0" not in content and not content.startswith(_NO_TEXT))
# Not any table: the photos' labels.csv is one too.
PREDICTIONS = Kind("a table of predictions", _starts_with(b"file,label,prediction"))
# The fields of a ModelProto, each with its wire type: 0 is a number, 2 has a length.
_ONNX_FIELDS = {1: 0, 2: 2, 3: 2, 4: 2, 5: 0, 6: 2, 7: 2, 8: 2, 14: 2, 20: 2, 25: 2, 26: 2}

#: Files that nybble keeps for itself: whatever is there may be replaced.
OWN = Kind("a file", lambda _: True)


def _is_onnx(head: bytes) -> bool:
    """Whether bytes begin as a ModelProto: its fields, with their wire types, as far as the bytes go."""
    position = 0
    while position < len(head):
        tag, position = _number(head, position)
        wire = _ONNX_FIELDS.get(tag >> 3)
        if wire is None or wire != tag & 7:
            return False
        value, position = _number(head, position)
        position += value if wire == 2 else 0
    return True


def _number(content: bytes, position: int) -> tuple[int, int]:
    """A varint of protobuf and the position behind it; missing bytes count as zeros."""
    value = shift = 0
    for byte in content[position : position + 10]:
        value |= (byte & 127) << shift
        position, shift = position + 1, shift + 7
        if byte < 128:
            break
    return value, position


def check_free(path: Path, kind: Kind) -> None:
    """Check that a file may be written, before any work is done.

    Raises
    ------
    FileError
        If the path is a folder or a file of another kind, or its folder does not exist.
    """
    try:
        if path.is_dir():
            raise FileError(f"{path}: is a folder; name a file")
        if not path.absolute().parent.is_dir():
            raise FileError(f"{path}: there is no folder {path.parent}")
        if not path.exists():
            with tempfile.TemporaryFile(dir=path.absolute().parent):
                return  # The folder can be written to.
        # Writing to a device or a pipe overwrites nothing.
        if not path.is_file():
            return
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        if isinstance(error, FileError):
            raise
        raise FileError(f"{path}: cannot be written: {error.strerror or error}") from error
    if head and not kind.fits(head):
        raise FileError(f"{path}: exists already and is not {kind.name}; name another file, or remove it")


def write(path: Path, content: bytes, kind: Kind) -> None:
    """Write a file under a temporary name and rename it, so that no reader sees half of it.

    Parameters
    ----------
    path : Path
        A link is followed: its target is replaced. A device or a pipe is written to directly.
    content : bytes
    kind : Kind
        A file of another kind is not replaced.

    Raises
    ------
    FileError
        As :func:`check_free`, and where the file cannot be written.
    """
    with _part(path, kind) as file:
        file.write(content)


@contextmanager
def writing(path: Path, kind: Kind) -> Iterator[IO[str]]:
    """A file to write UTF-8 text to, piece by piece; as with :func:`write`, it appears only if the block succeeds."""
    with _part(path, kind) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", errors="surrogateescape", newline="\n")
        yield text
        text.flush()
        text.detach()


@contextmanager
def _part(path: Path, kind: Kind) -> Iterator[BinaryIO]:
    """The temporary file, which is renamed to the final one if the block succeeds."""
    check_free(path, kind)
    target = Path(os.path.realpath(path))
    # The process's number: two runs must not write into each other's file.
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        if target.exists() and not target.is_file():
            with target.open("wb") as file:
                yield file
            return
        try:
            with part.open("wb") as file:
                yield file
            part.replace(target)
        except BaseException:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            raise
    except OSError as error:
        # Errors of the caller's own code in the block name another file, have a type of ours, or have no errno.
        is_ours = error.filename in (None, str(path), str(target), str(part)) and error.errno is not None
        if isinstance(error, NybbleError) or not is_ours:
            raise
        raise FileError(f"{path}: cannot be written: {error.strerror or error}") from error


def write_text(path: Path, text: str, kind: Kind) -> None:
    """:func:`write` in UTF-8; file names that are not UTF-8 are written as they are on the disk."""
    write(path, text.encode("utf-8", "surrogateescape"), kind)


@contextmanager
def caching(folder: Path) -> Iterator[None]:
    """Turn errors of the file system in a cache folder into a :class:`FileError` with the remedy."""
    try:
        yield
    except OSError as error:
        if isinstance(error, NybbleError):
            raise
        place = error.filename or folder
        raise FileError(
            f"{place}: cannot be written: {error.strerror or error}; NYBBLE_CACHE names another folder for the cache"
        ) from error
