"""The error and the warning for photos and collections of photos, and printable file names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from nybble.graph import NybbleError

#: Control characters and line separators, which would break a line of output.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class ImageError(NybbleError, ValueError):
    """Raised for a photo that cannot be used, or a list of labels that cannot be read.

    The text names the file and, for a list, the line. ``path`` is ``None`` for what came from memory.
    """

    def __init__(self, path: Path | str | None, message: str, *, line: int | None = None) -> None:
        place = "image" if path is None else printable(str(path))
        super().__init__(f"{place}: {message}" if line is None else f"{place}:{line}: {message}")
        self.path = None if path is None else Path(path)
        self.line = line
        self.message = message


class ImageWarning(UserWarning):
    """Warns of a collection of photos that can be used, but may not be the one that the user meant."""


def encodable(name: str) -> str:
    """A file name that UTF-8 can encode: bytes that are not UTF-8 become escapes."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def some(names: Sequence[str], count: int = 3) -> str:
    """The first few names, printable, and how many more there are."""
    shown = ", ".join(map(printable, names[:count]))
    return f"{shown} and {len(names) - count} more" if len(names) > count else shown


def printable(name: str) -> str:
    """A file name on one line: as :func:`encodable`, and control characters become escapes."""
    return _UNPRINTABLE.sub(lambda found: found.group().encode("unicode_escape").decode("ascii"), encodable(name))
