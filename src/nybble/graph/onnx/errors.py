"""Errors of the export to ONNX and of the import."""

from __future__ import annotations

from pathlib import Path

from nybble.graph.errors import MAX_MESSAGE, GraphError, NybbleError


class MissingOnnxError(NybbleError, ImportError):
    """Raised if the ``onnx`` package is not installed."""


class OnnxExportError(GraphError):
    """Raised for a node that the chosen form of an ONNX model cannot express; the text says which and why."""


class OnnxImportError(NybbleError, ValueError):
    """Raised for an ONNX model that cannot be imported.

    ``node`` is the name of the ONNX node at fault, or ``None`` if it is the whole file; ``path`` is the file, if known.
    """

    def __init__(self, message: str, *, node: str | None = None, path: Path | str | None = None) -> None:
        # A damaged file can contain words of any length, and line breaks.
        message, node = " ".join(message.split()), None if node is None else " ".join(node.split())
        if len(message) > MAX_MESSAGE:
            message = f"{message[: MAX_MESSAGE // 2]} ... {message[-MAX_MESSAGE // 3 :]}"
        places = [str(part)[:200] for part in (path, node) if part is not None]
        super().__init__(": ".join([*places, message]))
        self.message = message
        self.node = node
        self.path = path
