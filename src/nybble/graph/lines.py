"""The line format of a model directory: a type line, then ``key=value`` lines, a tensor's ``!path`` after its own.

Nothing here depends on the kinds of layers. Each accessor of :class:`LayerFile` checks one value and names the line
that is wrong.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nybble.graph.errors import ModelFormatError
from nybble.graph.nodes import Padding, Pair
from nybble.graph.types import DType
from nybble.graph.value_type import MAX_ELEMENTS, MAX_EXTENT

#: Lines end as in the published directory; a reader takes a bare newline as well.
LINE_END = "\r\n"
#: Most entries of a tuple; the longest legitimate ones are the outputs of a graph.
MAX_TUPLE = 1 << 16

_DTYPES = frozenset(dtype.value for dtype in DType)
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]*")
_INTEGER = re.compile(r"-?[0-9]{1,12}")
_FLOAT = re.compile(r"-?[0-9]{1,40}(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?")
_MODE = re.compile(r"(?:[usf][0-9]{1,2})+")


@dataclass(frozen=True)
class Entry:
    """The value of one key, the line it stands on, and the ``!path`` that follows it."""

    value: str
    line: int
    path: str | None


@dataclass(frozen=True)
class TensorReference:
    """The contents of a tensor's two lines: element type, shape, and the path as written."""

    dtype: DType
    shape: tuple[int, ...]
    path: str


class LayerFile:
    """One parsed text file: its type and its entries, by key.

    Accessors raise :class:`ModelFormatError` naming file and line where a key is missing or its value is
    of another kind. :meth:`finish` reports the first key that no accessor has read.

    Attributes
    ----------
    path : Path
    kind : str
        The layer type, line 1.
    entries : dict of str to Entry
        In the order of the file.
    """

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self.entries: dict[str, Entry] = {}
        self._asked: set[str] = set()
        lines = split_lines(text)
        self.kind = lines[0] if lines else ""
        if not _KEY.fullmatch(self.kind):
            raise ModelFormatError(path, f"expected a layer type, found {_shown(self.kind)}", line=1)
        position = 1
        while position < len(lines):
            position = self._parse_entry(lines, position)

    def _parse_entry(self, lines: Sequence[str], position: int) -> int:
        number = position + 1
        key, equals, value = lines[position].partition("=")
        if not equals or not _KEY.fullmatch(key):
            raise ModelFormatError(self.path, f"expected key=value, found {_shown(lines[position])}", line=number)
        if key in self.entries:
            raise ModelFormatError(
                self.path, f"{key} is given twice (first in line {self.entries[key].line})", line=number
            )
        reference = None
        if number < len(lines) and lines[number].startswith("!"):
            reference = lines[number][1:]
            position += 1
        self.entries[key] = Entry(value, number, reference)
        return position + 1

    def error(self, message: str, key: str | None = None) -> ModelFormatError:
        """An error that names this file and the line of ``key`` (line 1 without one)."""
        entry = self.entries.get(key) if key is not None else None
        return ModelFormatError(self.path, message, line=entry.line if entry is not None else 1)

    def expect(self, key: str, found: object, expected: object, why: str) -> None:
        """Raise unless the value of ``key`` is ``expected``; the text of the error begins with ``why``."""
        if found != expected:
            raise self.error(f"{key} says {_plain(found)}, but must be {why} {_plain(expected)}", key)

    def finish(self) -> None:
        """Raise if the file has a key that was not read."""
        for key in self.entries:
            if key not in self._asked:
                known = ", ".join(sorted(self._asked)) or "none"
                raise self.error(f"unknown key {_shown(key)} for {self.kind} (known: {known})", key)

    def has(self, key: str) -> bool:
        """Whether an optional key is there."""
        self._asked.add(key)
        return key in self.entries

    def text(self, key: str) -> str:
        """The value as it stands."""
        entry = self._entry(key)
        if entry.path is not None:
            raise ModelFormatError(self.path, f"{key} is not a tensor and takes no !path", line=entry.line + 1)
        return entry.value

    def integer(self, key: str, low: int, high: int) -> int:
        """A decimal integer of ``low..high``."""
        return self._integer(key, self.text(key), low, high)

    def number(self, key: str) -> float:
        """A finite decimal number."""
        return self._number(key, self.text(key))

    def flag(self, key: str) -> bool:
        """``True`` or ``False``."""
        value = self.text(key)
        if value not in ("True", "False"):
            raise self.error(f"{key} must be True or False, found {_shown(value)}", key)
        return value == "True"

    def words(self, key: str) -> tuple[str, ...]:
        """The entries of a tuple ``COUNT:v v v``, which must be as many as announced."""
        return self._words(key, self.text(key))

    def numbers(self, key: str) -> tuple[float, ...]:
        """A tuple of finite decimal numbers."""
        return tuple(self._number(key, word) for word in self.words(key))

    def integers(self, key: str, low: int, high: int) -> tuple[int, ...]:
        """A tuple of decimal integers of ``low..high``."""
        return tuple(self._integer(key, word, low, high) for word in self.words(key))

    def pair(self, key: str, low: int = 1) -> Pair:
        """``2:rows columns``, or one integer for both."""
        values = self._extents(key, low)
        if len(values) > 2:
            raise self.error(f"{key} takes one or two numbers, found {_shown(self.text(key))}", key)
        return Pair(values[0], values[-1])

    def padding(self, key: str) -> Padding:
        """``2:rows columns``, ``4:top left bottom right``, or one integer for all sides."""
        values = self._extents(key, 0)
        if len(values) == 3:
            raise self.error(f"{key} takes one, two or four numbers, found {_shown(self.text(key))}", key)
        return Padding(*values) if len(values) == 4 else Padding(values[0], values[-1], values[0], values[-1])

    def mode(self, count: int) -> tuple[DType, ...]:
        """The ``count`` types that ``compute_mode`` strings together."""
        value = self.text("compute_mode")
        found = re.findall(r"[usf][0-9]+", value) if _MODE.fullmatch(value) else []
        types = tuple(DType(name) for name in found if name in _DTYPES)
        if len(found) != count or len(types) != count:
            raise self.error(
                f"compute_mode of {self.kind} names {count} types (of {' '.join(DType)}), found {_shown(value)}",
                "compute_mode",
            )
        return types

    def shape(self, key: str) -> tuple[DType, tuple[int, ...]]:
        """``DTYPE,NDIMS:d d d`` without a path: an element type and a shape."""
        return self._typed_shape(key, self.text(key))

    def tensor(self, key: str, dtypes: Sequence[DType], rank: int) -> TensorReference:
        """A tensor of one of the element types and of ``rank`` dimensions, and the path in the line after it."""
        entry = self._entry(key)
        if entry.path is None:
            raise self.error(f"{key} must be followed by a line !path that names its data file", key)
        dtype, shape = self._typed_shape(key, entry.value)
        if dtype not in dtypes:
            raise self.error(f"{key} must be {' or '.join(dtypes)}, found {dtype}", key)
        if len(shape) != rank:
            raise self.error(f"{key} must have {rank} dimensions, found {len(shape)}", key)
        return TensorReference(dtype, shape, entry.path)

    def _entry(self, key: str) -> Entry:
        self._asked.add(key)
        entry = self.entries.get(key)
        if entry is None:
            raise self.error(f"{self.kind} lacks the key {key}")
        return entry

    def _words(self, key: str, value: str) -> tuple[str, ...]:
        announced, colon, rest = value.partition(":")
        if not colon or not _INTEGER.fullmatch(announced):
            raise self.error(f"{key} must be a tuple COUNT:v v v, found {_shown(value)}", key)
        words = tuple(rest.split(" ")) if rest else ()
        if len(words) > MAX_TUPLE or len(words) != int(announced) or "" in words:
            raise self.error(f"{key} announces {announced} values, found {_shown(value)}", key)
        return words

    def _extents(self, key: str, low: int) -> list[int]:
        value = self.text(key)
        words = self._words(key, value) if ":" in value else (value,)
        if not 1 <= len(words) <= 4:
            raise self.error(f"{key} takes one to four numbers, found {_shown(value)}", key)
        return [self._integer(key, word, low, MAX_EXTENT) for word in words]

    def _typed_shape(self, key: str, value: str) -> tuple[DType, tuple[int, ...]]:
        name, comma, rest = value.partition(",")
        if not comma or name not in _DTYPES:
            raise self.error(f"{key} must be DTYPE,NDIMS:d d d, found {_shown(value)}", key)
        shape = tuple(self._integer(key, word, 1, MAX_ELEMENTS) for word in self._words(key, rest))
        if not 1 <= len(shape) <= 4 or math.prod(shape) > MAX_ELEMENTS:
            raise self.error(f"{key} needs 1 to 4 dimensions and at most {MAX_ELEMENTS} elements", key)
        return DType(name), shape

    def _integer(self, key: str, value: str, low: int, high: int) -> int:
        if not _INTEGER.fullmatch(value):
            raise self.error(f"{key} must be an integer of {low}..{high}, found {_shown(value)}", key)
        if not low <= int(value) <= high:
            raise self.error(f"{key} must be in {low}..{high}, found {value}", key)
        return int(value)

    def _number(self, key: str, value: str) -> float:
        if not _FLOAT.fullmatch(value) or not math.isfinite(float(value)):
            raise self.error(f"{key} must be a finite number, found {_shown(value)}", key)
        return float(value)


class LayerText:
    """Collects the lines of one text file and encodes them."""

    def __init__(self, kind: str) -> None:
        self._lines = [kind]

    def add(self, key: str, value: object) -> None:
        """Append ``key=value``."""
        self._lines.append(f"{key}={value}")

    def add_tensor(self, key: str, dtype: DType, shape: Iterable[int], path: str) -> None:
        """Append a tensor's two lines."""
        self.add(key, typed_shape(dtype, shape))
        self._lines.append(f"!{path}")

    def encode(self) -> bytes:
        """The file's bytes."""
        return "".join(line + LINE_END for line in self._lines).encode()


def split_lines(text: str) -> list[str]:
    r"""The lines of a text whose lines end with ``\n`` or ``\r\n``; the last one may lack its end."""
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def joined(values: Iterable[object]) -> str:
    """A tuple as the format writes it: ``COUNT:v v v``."""
    words = [str(value) for value in values]
    return f"{len(words)}:{' '.join(words)}"


def typed_shape(dtype: DType, shape: Iterable[int]) -> str:
    """An element type and a shape as the format writes them: ``DTYPE,NDIMS:d d d``."""
    return f"{dtype},{joined(shape)}"


def _plain(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _shown(value: str) -> str:
    return repr(value if len(value) <= 60 else value[:57] + "...")
