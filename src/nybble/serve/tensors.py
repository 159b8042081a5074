"""Tensors of the Open Inference Protocol: their bytes, and what they are made of."""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from nybble.graph.types import Array
from nybble.serve.errors import BadRequestError

#: The datatypes of the tensors that models have here.
UINT8, FP32, BYTES = "UINT8", "FP32", "BYTES"
_LENGTH = struct.Struct("<I")


@dataclass
class Tensor:
    """An input of a request.

    Attributes
    ----------
    name, datatype : str
    shape : tuple of int
    content : bytes, memoryview, ndarray or list
        Little-endian bytes, as the binary extension has them; or the elements, nested or flat.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    content: Any


@dataclass
class Wanted:
    """A requested output. ``classes`` is the number of best classes to return in its place; 0 for the tensor."""

    name: str
    classes: int = 0
    is_binary: bool = False


@dataclass
class InferCall:
    """A request, independent of its protocol.

    ``timeout`` is in seconds, None for the server's. ``outputs`` is empty where all are wanted, with ``is_binary`` as
    bytes.
    """

    inputs: list[Tensor]
    outputs: list[Wanted] = field(default_factory=list)
    id: str = ""
    timeout: float | None = None
    is_binary: bool = False


def photos_of(tensor: Tensor, shape: tuple[int, ...]) -> Array:
    """uint8 (N, *shape) of an input.

    Raises
    ------
    BadRequestError
        Where datatype, shape or the number of elements is another.
    """
    _check(tensor, UINT8)
    if tensor.shape[1:] != shape or tensor.shape[0] < 1:
        expected = ", ".join(map(str, shape))
        raise BadRequestError(f"{tensor.name}: shape {list(tensor.shape)} is not [N, {expected}]")
    count = prod(tensor.shape)
    if isinstance(tensor.content, bytes | bytearray | memoryview):
        values = np.frombuffer(tensor.content, dtype=np.uint8)
    else:
        values = _listed(tensor)
    if values.size != count:
        raise BadRequestError(f"{tensor.name}: {values.size} elements, but shape {list(tensor.shape)} has {count}")
    return values.reshape(tensor.shape)


def encoded_of(tensor: Tensor) -> list[bytes]:
    """The N encoded photos of an input of shape (N) or (N, 1): bytes; in JSON, base64.

    Raises
    ------
    BadRequestError
        Where datatype, shape or the number of elements is another, or a photo is not base64.
    """
    _check(tensor, BYTES)
    if not tensor.shape or tensor.shape[0] < 1 or tensor.shape[1:] not in ((), (1,)):
        raise BadRequestError(f"{tensor.name}: shape {list(tensor.shape)} is not [N] or [N, 1]")
    if isinstance(tensor.content, bytes | bytearray | memoryview):
        elements = split_bytes(tensor.content, tensor.name)
    else:
        elements = [_unwrapped(element, tensor.name) for element in _flat(tensor.content)]
    if len(elements) != tensor.shape[0]:
        raise BadRequestError(
            f"{tensor.name}: {len(elements)} elements, but shape {list(tensor.shape)} has {tensor.shape[0]}"
        )
    return elements


def split_bytes(content: bytes | bytearray | memoryview, name: str) -> list[bytes]:
    """Elements of a BYTES tensor: each is four bytes of length, little-endian, and so many bytes."""
    view, position = memoryview(content), 0
    elements: list[bytes] = []
    while position < len(view):
        if position + _LENGTH.size > len(view):
            raise BadRequestError(f"{name}: the data end within an element's length")
        (length,) = _LENGTH.unpack_from(view, position)
        position += _LENGTH.size
        if position + length > len(view):
            raise BadRequestError(f"{name}: the data end within element {len(elements)}")
        elements.append(bytes(view[position : position + length]))
        position += length
    return elements


def join_bytes(elements: Iterable[bytes]) -> bytes:
    """The bytes of a BYTES tensor, as :func:`split_bytes` reads them."""
    return b"".join(_LENGTH.pack(len(element)) + element for element in elements)


def little_endian(values: Array) -> bytes:
    """The bytes of an array as the protocol has them."""
    return values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()


def decode_base64(text: str, name: str) -> bytes:
    """The bytes of base64. Raises :class:`BadRequestError` naming what it is."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise BadRequestError(f"{name}: is not base64") from None


def _check(tensor: Tensor, datatype: str) -> None:
    if tensor.datatype != datatype:
        raise BadRequestError(f"{tensor.name}: datatype {tensor.datatype[:20]!r} is not {datatype}")


def _listed(tensor: Tensor) -> Array:
    try:
        values = np.asarray(tensor.content)
    except (ValueError, OverflowError):
        values = np.asarray(None)
    if values.dtype.kind not in "iu" or (values.size and (values.min() < 0 or values.max() > 255)):
        raise BadRequestError(f"{tensor.name}: the data are not integers in 0..255, in lists of equal lengths")
    return values.astype(np.uint8)


def _flat(content: Any) -> Sequence[Any]:
    """The elements of a list, one level of nesting removed."""
    if not isinstance(content, list):
        return []
    return [inner for element in content for inner in (element if isinstance(element, list) else [element])]


def _unwrapped(element: Any, name: str) -> bytes:
    if isinstance(element, bytes):
        return element
    if isinstance(element, str):
        return decode_base64(element, name)
    raise BadRequestError(f"{name}: the data are not strings of base64")


def timeout_of(microseconds: int) -> float | None:
    """Seconds of the parameter ``timeout``; 0 means that a request has none of its own."""
    return microseconds / 1e6 if microseconds > 0 else None
