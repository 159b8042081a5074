"""What can go wrong between a graph and an ONNX file."""

from __future__ import annotations

from pathlib import Path

from nybble.graph.errors import MAX_MESSAGE, GraphError, NybbleError


class MissingOnnxError(NybbleError, ImportError):
    """The ``onnx`` package is not installed."""


class OnnxExportError(GraphError):
    """A node that the chosen form of an ONNX model cannot express; the text says which and why."""


class OnnxImportError(NybbleError, ValueError):
    """An ONNX model that cannot become a graph.

    ``node`` is the name of the ONNX node at fault, ``None`` where the whole file is; ``path`` the file, where known.
    """

    def __init__(self, message: str, *, node: str | None = None, path: Path | str | None = None) -> None:
        # A broken file can hold words of any length, and lines.
        message, node = " ".join(message.split()), None if node is None else " ".join(node.split())
        if len(message) > MAX_MESSAGE:
            message = f"{message[: MAX_MESSAGE // 2]} ... {message[-MAX_MESSAGE // 3 :]}"
        places = [str(part)[:200] for part in (path, node) if part is not None]
        super().__init__(": ".join([*places, message]))
        self.message = message
        self.node = node
        self.path = path
