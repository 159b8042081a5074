"""What a fuzz target is, and what its bytes are read with."""

from __future__ import annotations

import os
import random
import re
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
_MOST_WORDS = 500
#: Of every text format.
NUMBERS = (
    *(b"0", b"-1", b"1", b"65536", b"65537", b"2147483647", b"2147483648", b"-2147483648", b"4294967296"),
    *(
        b"9" * 20,
        b"9" * 5000,
        b"1.5",
        b"1e9",
        b"1e999",
        b"nan",
        b"inf",
        b"0x10",
        b"true",
        b"\0",
        b"\xff",
        b"\r\n",
        b'"',
    ),
)
#: A separator of the files of a folder in one input. No seed has it in a file.
FILE = b"\n-- file "


class Target(ABC):
    """One entrance of the package for content from outside.

    ``seeds`` are valid inputs to start from. ``run`` takes any bytes: it returns for what is accepted and for what is
    refused as documented, and raises for every other outcome.
    """

    name: str

    def __init__(self) -> None:
        # In memory where the system has such a folder: an input is written, read once and removed.
        memory = Path("/dev/shm")
        where = memory if memory.is_dir() and os.access(memory, os.W_OK) else None
        self.scratch = Path(tempfile.mkdtemp(prefix="nybble-fuzz-", dir=where))

    @abstractmethod
    def seeds(self) -> Mapping[str, bytes]: ...

    def words(self) -> Iterable[bytes]:
        """What is put into inputs as a whole: by default the words of the seeds, and numbers at bounds."""
        found = {word for data in self.seeds().values() for word in re.findall(rb"[A-Za-z_][A-Za-z0-9_.-]{2,40}", data)}
        return sorted(found)[:_MOST_WORDS] + list(NUMBERS)

    def mutate(self, data: bytes, draw: random.Random) -> bytes:
        """A change that keeps the form of an input; by default none, and libFuzzer changes bytes alone."""
        return data

    @abstractmethod
    def run(self, data: bytes) -> None: ...

    def close(self) -> None:
        shutil.rmtree(self.scratch, ignore_errors=True)


def packed(folder: Path) -> bytes:
    """The files of a folder as one input."""
    parts = []
    for file in sorted(file for file in folder.rglob("*") if file.is_file()):
        content = file.read_bytes()
        assert FILE not in content
        parts.append(FILE + str(file.relative_to(folder)).encode() + b"\n" + content)
    return b"".join(parts)


def unpack(data: bytes, folder: Path) -> None:
    """Write the files of an input into an empty folder; names that lead out of it are left out."""
    for part in data.split(FILE)[1:]:
        name, _, content = part.partition(b"\n")
        text = name.decode("ascii", "replace")
        steps = text.split("/")
        if len(text) > 100 or not text.isprintable() or not all(steps) or {".", ".."} & set(steps):
            continue
        file = folder.joinpath(*steps)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        except OSError:  # A file where another needs a folder.
            continue


class Bytes:
    """Decisions read from an input; once it is used up, each is the first of its kind."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._place = 0

    def __bool__(self) -> bool:
        return self._place < len(self._data)

    def take(self, count: int) -> bytes:
        taken = self._data[self._place : self._place + count]
        self._place += len(taken)
        return taken

    def number(self, least: int, most: int) -> int:
        """A number from ``least`` to ``most``."""
        span = most - least + 1
        return least + int.from_bytes(self.take(((span - 1).bit_length() + 7) // 8), "little") % span

    def pick(self, among: Sequence[T]) -> T:
        return among[self.number(0, len(among) - 1)]

    def rest(self) -> bytes:
        return self.take(len(self._data))
