"""Reading a model of any form: a model directory, one packed into a file, or an ONNX file."""

from __future__ import annotations

import os
from pathlib import Path

from nybble.graph import directory
from nybble.graph.archive import is_archive
from nybble.graph.graph import Graph


def is_model_file(path: Path) -> bool:
    """Whether a path is a file that may be a model: a zip archive, or a file whose name ends in ``.onnx``."""
    try:
        return is_archive(path) or (path.suffix.lower() == ".onnx" and path.is_file())
    except OSError:
        return False


def read_graph(path: str | os.PathLike[str]) -> Graph:
    """Read a model.

    Parameters
    ----------
    path : path
        The folder ``model/`` or the folder that holds it, such a folder packed by ``nybble pack``, or an ONNX file in
        QDQ form (:func:`nybble.graph.onnx.import_onnx`).

    Returns
    -------
    Graph
        Tensors of a directory or an archive stay in their files until they are used, so it must outlive the graph.

    Raises
    ------
    ModelFormatError
        If a directory or an archive is not valid. The text names the file and, if there is one, the line.
    OnnxImportError
        If an ONNX file contains something that nybble cannot express. The text names the node and the remedy.
    MissingOnnxError
        For an ONNX file, where the package ``onnx`` is not installed.

    Examples
    --------
    >>> import nybble
    >>> from nybble.models import locate
    >>> graph = nybble.read_graph(locate("efficientnet-lite0"))
    >>> graph.inputs[0].shape, graph.inputs[0].dtype.value
    ((3, 224, 224), 's8')
    """
    if Path(path).suffix.lower() == ".onnx" and Path(path).is_file():
        from nybble.graph.onnx import import_onnx

        return import_onnx(path).graph
    return directory.read_graph(path)
