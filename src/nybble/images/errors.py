"""The error that photos and folders of photos raise."""

from __future__ import annotations

from pathlib import Path

from nybble.graph import NybbleError


class ImageError(NybbleError, ValueError):
    """A photo that cannot be used, or a list of labels that cannot be read.

    The text names the file and, for a list, the line. ``path`` is ``None`` for what came from memory.
    """

    def __init__(self, path: Path | str | None, message: str, *, line: int | None = None) -> None:
        place = "image" if path is None else str(path)
        super().__init__(f"{place}: {message}" if line is None else f"{place}:{line}: {message}")
        self.path = None if path is None else Path(path)
        self.line = line
        self.message = message
