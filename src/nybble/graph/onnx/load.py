"""Opening an ONNX file of unknown origin: nothing in it is trusted."""

from __future__ import annotations

import math
import os
import stat
from pathlib import Path
from typing import TypeVar

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import AttributeProto, TensorProto, numpy_helper

from nybble.graph.infer import MAX_ELEMENTS
from nybble.graph.onnx.errors import OnnxImportError
from nybble.graph.onnx.writer import MAX_BYTES
from nybble.graph.types import Array

#: The operator sets that are read: from the first with QuantizeLinear.
OPSETS = range(10, 29)
#: Domains of operators; Microsoft's has QuantizeLinear for types that older sets of ONNX lack.
DOMAINS = ("", "ai.onnx", "com.microsoft")
_Attribute = TypeVar("_Attribute", int, float, bytes, list[int])
_KINDS = {int: AttributeProto.INT, float: AttributeProto.FLOAT, bytes: AttributeProto.STRING, list: AttributeProto.INTS}


def load(path: str | os.PathLike[str]) -> onnx.ModelProto:
    """Read and check a model.

    Raises
    ------
    OnnxImportError
        If it cannot be read, is no ONNX model, keeps its weights in other files, or is of an unknown version.
    """
    path = Path(path)
    try:
        # Without O_NONBLOCK, opening a pipe that nobody writes to would hang.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise OnnxImportError("is not a regular file", path=path)
            if status.st_size > MAX_BYTES:
                raise OnnxImportError(f"is larger than the {MAX_BYTES} bytes an ONNX file may have", path=path)
            content = file.read()
    except OSError as error:
        raise OnnxImportError(f"cannot be read: {error.strerror or error}", path=path) from error
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except DecodeError as error:
        raise OnnxImportError("is no ONNX model, or one that is cut off or damaged", path=path) from error
    if not model.graph.node:
        raise OnnxImportError("is no ONNX model: it has no nodes", path=path)
    for tensor in model.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
            raise OnnxImportError(
                f"keeps {tensor.name[:80]!r} in another file; save it as one file (onnx.save without external data)",
                path=path,
            )
    versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    if len(versions) != 1 or versions[0] not in OPSETS:
        known = f"{OPSETS[0]} to {OPSETS[-1]}"
        raise OnnxImportError(f"is of operator set {versions or 'unknown'}; {known} are read", path=path)
    for node in model.graph.node:
        if node.domain not in DOMAINS:
            raise OnnxImportError(
                f"operator {node.op_type[:60]} of domain {node.domain[:60]!r} is not known", node=label(node), path=path
            )
    for entry in model.graph.output:
        # Runtimes do without the shape of an output; the checker does not.
        if entry.type.HasField("tensor_type") and not entry.type.tensor_type.HasField("shape"):
            entry.type.tensor_type.shape.SetInParent()
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError, RuntimeError) as error:
        raise OnnxImportError(f"ONNX's checker refuses it: {_first_line(error)}", path=path) from error
    return model


def label(node: onnx.NodeProto) -> str:
    """What to call an ONNX node: its name, else its output."""
    return str(node.name or (node.output[0] if node.output else node.op_type))


def values_of(tensor: onnx.TensorProto, node: str | None = None) -> Array:
    """The values of a constant; four-bit types come as int8 and uint8.

    Raises
    ------
    OnnxImportError
        If it has no such element type, too many elements, or not as much data as its shape takes.
    """
    name = tensor.name[:80]
    if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
        raise OnnxImportError(f"constant {name!r} lies in another file", node=node)
    if min(tensor.dims, default=0) < 0 or math.prod(tensor.dims) > MAX_ELEMENTS:
        raise OnnxImportError(f"constant {name!r} has an impossible shape {list(tensor.dims)[:8]}", node=node)
    try:
        array = np.asarray(numpy_helper.to_array(tensor))
    except Exception as error:  # Whatever the reader makes of damaged data.
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
            raise OnnxImportError(f"constant {name!r} is of no numeric type", node=node) from error
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
