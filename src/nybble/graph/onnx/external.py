"""Tensors that an ONNX file keeps in files beside it: found, checked and read into the model."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto

from nybble.graph.onnx.errors import OnnxImportError
from nybble.graph.onnx.opening import MAX_BYTES, open_regular

#: Bits of an element, by type; of others nothing is read from another file.
_BITS = {
    TensorProto.FLOAT: 32,
    TensorProto.DOUBLE: 64,
    TensorProto.FLOAT16: 16,
    TensorProto.BFLOAT16: 16,
    **dict.fromkeys((TensorProto.INT64, TensorProto.UINT64), 64),
    **dict.fromkeys((TensorProto.INT32, TensorProto.UINT32), 32),
    **dict.fromkeys((TensorProto.INT16, TensorProto.UINT16), 16),
    **dict.fromkeys((TensorProto.INT8, TensorProto.UINT8, TensorProto.BOOL), 8),
    **dict.fromkeys((TensorProto.INT4, TensorProto.UINT4), 4),
}


def is_external(tensor: onnx.TensorProto) -> bool:
    """Whether a tensor's values lie in another file."""
    return bool(tensor.data_location == TensorProto.EXTERNAL or tensor.external_data)


def attach(model: onnx.ModelProto, path: Path, size: int) -> None:
    """Read tensors that lie in files beside the model into it.

    A file must have a plain name, lie in the model's folder, and be a regular file, not a link: a model of unknown
    origin could otherwise read any file of this machine, or wait on a pipe.

    Parameters
    ----------
    model : onnx.ModelProto
        Changed in place.
    path : Path
        The model's file.
    size : int
        Its bytes; those of the tensors come on top and may not pass ``MAX_BYTES``.

    Raises
    ------
    OnnxImportError
        Naming the tensor and what is wrong with the file it names.
    """
    for tensor in model.graph.initializer:
        if not is_external(tensor):
            continue
        name, offset = tensor.name[:80], 0
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        if not location or location in (".", "..") or {"/", "\\", "\0"}.intersection(location):
            raise OnnxImportError(
                f"keeps {name!r} in {location[:80]!r}; only files in the model's own folder are read: save it as one "
                "file (onnx.save without external data)",
                path=path,
            )
        expected = _bytes_of(tensor, path)
        offset = _number(entries, "offset", 0, tensor, path)
        length = _number(entries, "length", expected, tensor, path)
        if length != expected:
            raise OnnxImportError(f"{name!r} has {length} bytes of data where its shape takes {expected}", path=path)
        size += length
        if size > MAX_BYTES:
            raise OnnxImportError(f"and the files beside it are larger than {MAX_BYTES} bytes", path=path)
        data = _read(path.parent / location, offset, length, tensor, path)
        tensor.ClearField("external_data")
        tensor.data_location = TensorProto.DEFAULT
        tensor.raw_data = data


def everywhere(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """The tensors of a model, also those in attributes of its nodes; subgraphs are not entered."""
    yield from model.graph.initializer
    for node in model.graph.node:
        for entry in node.attribute:
            if entry.HasField("t"):
                yield entry.t
            yield from entry.tensors


def _bytes_of(tensor: onnx.TensorProto, path: Path) -> int:
    name = tensor.name[:80]
    if tensor.data_type not in _BITS:
        raise OnnxImportError(f"keeps {name!r} in another file, in an element type that is not read", path=path)
    if min(tensor.dims, default=0) < 0:
        raise OnnxImportError(f"constant {name!r} has an impossible shape {list(tensor.dims)[:8]}", path=path)
    elements: int = math.prod(tensor.dims)
    return -(-elements * _BITS[tensor.data_type] // 8)


def _number(entries: dict[str, str], key: str, default: int, tensor: Any, path: Path) -> int:
    text = entries.get(key, str(default))
    # Digits alone, and not more than a file's size has: int() takes any number of them, and much else.
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise OnnxImportError(f"{key} {text[:40]!r} of {tensor.name[:80]!r} is no number of bytes", path=path)
    return int(text)


def _read(source: Path, offset: int, length: int, tensor: Any, path: Path) -> bytes:
    where = f"keeps {tensor.name[:80]!r} in {source.name[:80]!r}, which"
    try:
        with open_regular(source, follow=False) as file:
            available = os.fstat(file.fileno()).st_size
            if offset + length > available:
                raise OnnxImportError(
                    f"{where} has {available} bytes, not the {offset + length} that it takes", path=path
                )
            file.seek(offset)
            return file.read(length)
    except OnnxImportError as error:
        if error.path == path:
            raise
        raise OnnxImportError(f"{where} {error.message}", path=path) from error
