"""Opening an ONNX file of unknown origin: nothing in it is trusted."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import AttributeProto, TensorProto, numpy_helper

from nybble.graph.onnx import external
from nybble.graph.onnx.errors import OnnxImportError
from nybble.graph.onnx.opening import open_regular
from nybble.graph.types import Array
from nybble.graph.value_type import MAX_ELEMENTS

#: The operator sets that are read: from the first with QuantizeLinear.
OPSETS = range(10, 29)
#: Domains of operators; Microsoft's has QuantizeLinear for types that older sets of ONNX lack.
DOMAINS = ("", "ai.onnx", "com.microsoft")
_Attribute = TypeVar("_Attribute", int, float, bytes, list[int])
_KINDS = {int: AttributeProto.INT, float: AttributeProto.FLOAT, bytes: AttributeProto.STRING, list: AttributeProto.INTS}


def load(path: str | os.PathLike[str], *, opsets: range = OPSETS) -> onnx.ModelProto:
    """Read and check a model.

    Tensors may lie in files beside it (see :func:`nybble.graph.onnx.external.attach`), where PyTorch's exporter writes
    them; they are read into the result.

    Parameters
    ----------
    path : str or path-like
    opsets : range
        Operator sets of ONNX that are read.

    Raises
    ------
    OnnxImportError
        If it cannot be read, is no ONNX model, keeps tensors elsewhere, or is of an unknown version.
    """
    path = Path(path)
    try:
        with open_regular(path) as file:
            content = file.read()
    except OSError as error:
        raise OnnxImportError(f"cannot be read: {error.strerror or error}", path=path) from error
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except DecodeError as error:
        raise OnnxImportError("is not an ONNX model, or is truncated or damaged", path=path) from error
    if not model.graph.node:
        raise OnnxImportError("is not an ONNX model: it has no nodes", path=path)
    if not all(isinstance(name, str) for name in _names(model)):
        raise OnnxImportError("is damaged: a name in it is not text", path=path)
    external.attach(model, path, len(content))
    for tensor in external.everywhere(model):
        if external.is_external(tensor):
            raise OnnxImportError(
                f"keeps {tensor.name[:80]!r} in another file; save it as one file (onnx.save without external data)",
                path=path,
            )
    versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    if len(versions) != 1 or versions[0] not in opsets:
        known = f"{opsets[0]} to {opsets[-1]}"
        raise OnnxImportError(f"is of operator set {versions or 'unknown'}; {known} are read", path=path)
    for node in model.graph.node:
        if node.domain not in DOMAINS:
            raise OnnxImportError(
                f"operator {node.op_type[:60]} of domain {node.domain[:60]!r} is not known", node=label(node), path=path
            )
    for entry in model.graph.output:
        # Runtimes do not need the shape of an output, but the checker does.
        if entry.type.HasField("tensor_type") and not entry.type.tensor_type.HasField("shape"):
            entry.type.tensor_type.shape.SetInParent()
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError, RuntimeError) as error:
        raise OnnxImportError(f"ONNX's checker refuses it: {_first_line(error)}", path=path) from error
    return model


def _names(model: onnx.ModelProto) -> Iterator[str]:
    """Everything in a model that stands for something else; protobuf gives bytes where it is not UTF-8."""
    graph = model.graph
    yield from (entry.domain for entry in model.opset_import)
    for node in graph.node:
        yield from (node.op_type, node.name, node.domain, *node.input, *node.output)
        yield from (entry.name for entry in node.attribute)
    for tensor in external.everywhere(model):
        yield tensor.name
        yield from (text for entry in tensor.external_data for text in (entry.key, entry.value))
    yield from (entry.name for entries in (graph.input, graph.output, graph.value_info) for entry in entries)


def label(node: onnx.NodeProto) -> str:
    """The name to show for an ONNX node: its name, else its output."""
    return str(node.name or (node.output[0] if node.output else node.op_type))


def values_of(tensor: onnx.TensorProto, node: str | None = None) -> Array:
    """The values of a constant; four-bit types come as int8 and uint8.

    Raises
    ------
    OnnxImportError
        If it has no such element type, too many elements, or not as much data as its shape takes.
    """
    name = tensor.name[:80]
    if external.is_external(tensor):
        raise OnnxImportError(f"constant {name!r} lies in another file", node=node)
    if min(tensor.dims, default=0) < 0 or math.prod(tensor.dims) > MAX_ELEMENTS:
        raise OnnxImportError(f"constant {name!r} has an impossible shape {list(tensor.dims)[:8]}", node=node)
    try:
        array = np.asarray(numpy_helper.to_array(tensor))
    except Exception as error:  # Damaged data can cause any of these errors in the reader.
        raise OnnxImportError(f"constant {name!r} cannot be read: {_first_line(error)}", node=node) from error
    if tensor.data_type == TensorProto.INT4:
        return array.astype(np.int8)
    if tensor.data_type == TensorProto.UINT4:
        return array.astype(np.uint8)
    if array.dtype.kind not in "iufb":
        try:
            # bfloat16 and the like.
            return array.astype(np.float32)
        except (TypeError, ValueError) as error:
            raise OnnxImportError(f"constant {name!r} is not of a numeric type", node=node) from error
    return array


def attribute(node: onnx.NodeProto, name: str, default: _Attribute) -> _Attribute:
    """An attribute of the default's type. Raises OnnxImportError if it is of another."""
    for entry in node.attribute:
        if entry.name == name:
            if entry.type != _KINDS[type(default)]:
                raise OnnxImportError(f"attribute {name} is of the wrong type", node=label(node))
            found: _Attribute = onnx.helper.get_attribute_value(entry)
            return found
    return default


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__
