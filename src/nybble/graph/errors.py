"""The errors a graph or a model directory can raise."""

from __future__ import annotations

from pathlib import Path

#: Longest text of a :class:`ModelFormatError`, the place not counted; the middle of a longer one is left out.
MAX_MESSAGE = 600


class NybbleError(Exception):
    """Base of every error that nybble raises on purpose; its text is meant for the user."""


class GraphError(NybbleError, ValueError):
    """A graph that cannot be right: a shape or type clash, a cycle, a sum that could overflow.

    ``node`` is the name of the node at fault (``None`` when the graph as a whole is), ``field`` the
    attribute of that node, where one can be named.
    """

    def __init__(self, message: str, *, node: str | None = None, field: str | None = None) -> None:
        super().__init__(f"{node}: {message}" if node is not None else message)
        self.message = message
        self.node = node
        self.field = field


class ModelFormatError(NybbleError, ValueError):
    """A model directory that cannot be read. The text names the file and, where there is one, the line."""

    def __init__(self, path: Path | str, message: str, *, line: int | None = None) -> None:
        # A broken file can hold words of any length.
        if len(message) > MAX_MESSAGE:
            message = f"{message[: MAX_MESSAGE // 2]} ... {message[-MAX_MESSAGE // 3 :]}"
        place = f"{path}:{line}" if line is not None else f"{path}"
        super().__init__(f"{place}: {message}")
        self.path = Path(path)
        self.line = line
        self.message = message
