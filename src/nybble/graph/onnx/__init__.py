"""Graphs as ONNX models, out and in. Needs the package ``onnx`` (``pip install 'nybble[onnx]'``)."""

from nybble.graph.onnx import extra as _extra  # noqa: F401 - first: says what is missing
from nybble.graph.onnx.errors import MissingOnnxError, OnnxExportError, OnnxImportError
from nybble.graph.onnx.exact_form import exact_model
from nybble.graph.onnx.export import Export, Form, export_onnx, to_onnx
from nybble.graph.onnx.float_form import float_model, write_float_model
from nybble.graph.onnx.imported import Import
from nybble.graph.onnx.importer import from_onnx, import_onnx
from nybble.graph.onnx.qdq_form import qdq_model

__all__ = [
    "Export",
    "Form",
    "Import",
    "MissingOnnxError",
    "OnnxExportError",
    "OnnxImportError",
    "exact_model",
    "export_onnx",
    "float_model",
    "from_onnx",
    "import_onnx",
    "qdq_model",
    "to_onnx",
    "write_float_model",
]
