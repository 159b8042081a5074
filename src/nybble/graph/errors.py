"""The errors a graph or a model directory can raise."""

from __future__ import annotations

from pathlib import Path

#: Longest text of a :class:`ModelFormatError`, not counting the place; longer texts are shortened in the middle.
MAX_MESSAGE = 600


class NybbleError(Exception):
    """Base class of all errors that nybble raises deliberately; the text is meant for the user."""


class GraphError(NybbleError, ValueError):
    """Raised for an invalid graph: a shape or type mismatch, a cycle, a sum that could overflow.

    ``node`` is the name of the node at fault (``None`` when the graph as a whole is), ``field`` the
    attribute of that node, where one can be named.
    """

    def __init__(self, message: str, *, node: str | None = None, field: str | None = None) -> None:
        super().__init__(f"{node}: {message}" if node is not None else message)
        self.message = message
        self.node = node
        self.field = field


class ModelFormatError(NybbleError, ValueError):
    """Raised if a model directory cannot be read. The text names the file and, if there is one, the line."""

    def __init__(self, path: Path | str, message: str, *, line: int | None = None) -> None:
        # A damaged file can contain words of any length.
        if len(message) > MAX_MESSAGE:
            message = f"{message[: MAX_MESSAGE // 2]} ... {message[-MAX_MESSAGE // 3 :]}"
        place = f"{path}:{line}" if line is not None else f"{path}"
        super().__init__(f"{place}: {message}")
        self.path = Path(path)
        self.line = line
        self.message = message
