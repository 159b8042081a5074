"""Constant tensors: weights, biases, factors and scales."""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np

from nybble.graph.errors import ModelFormatError
from nybble.graph.types import Array, DType

#: The error for a file that has changed since it was opened.
CHANGED = "has changed since the model was loaded; load it again"


class Tensor:
    """A constant with an element type, a shape and values.

    Values are in memory (:meth:`from_array`) or stay in their file until they are used (:meth:`from_file`), so that an
    engine that has packed its weights does not keep a second copy.

    Attributes
    ----------
    dtype : DType
    shape : tuple of int
    """

    __slots__ = ("_array", "_path", "_read", "dtype", "shape")

    def __init__(
        self,
        dtype: DType,
        shape: tuple[int, ...],
        array: Array | None,
        path: Path | None = None,
        read: Callable[[], bytes] | None = None,
    ) -> None:
        self.dtype = dtype
        self.shape = shape
        self._array = array
        self._path = path
        self._read = read

    @classmethod
    def from_array(cls, dtype: DType | str, array: Array) -> Tensor:
        """Wrap an array. Raises ``ValueError`` if a value does not fit ``dtype``."""
        dtype = DType(dtype)
        values = np.asarray(array)
        if dtype.is_float:
            if not np.all(np.isfinite(values)):
                raise ValueError("a float tensor holds NaN or infinity")
        elif values.dtype.kind not in "iu":
            raise ValueError(f"{dtype} tensor needs integers, got {values.dtype}")
        elif values.size and (int(values.min()) < dtype.minimum or int(values.max()) > dtype.maximum):
            raise ValueError(f"values {values.min()}..{values.max()} do not fit {dtype}")
        held = np.array(values, dtype=dtype.storage, order="C")
        held.setflags(write=False)
        return cls(dtype, held.shape, held)

    @classmethod
    def from_file(cls, dtype: DType | str, shape: tuple[int, ...], path: Path) -> Tensor:
        """Refer to a raw file. Raises :class:`ModelFormatError` if it is missing or of the wrong size."""
        try:
            status = path.stat()
        except OSError as error:
            raise ModelFormatError(path, f"cannot be read: {error.strerror or error}") from error
        if not stat.S_ISREG(status.st_mode):
            raise ModelFormatError(path, "is not a regular file")
        stamp = stamp_of(status)
        return cls.from_reader(dtype, shape, path, status.st_size, lambda: _unchanged(path, stamp))

    @classmethod
    def from_reader(
        cls, dtype: DType | str, shape: tuple[int, ...], path: Path, size: int, read: Callable[[], bytes]
    ) -> Tensor:
        """Refer to ``size`` bytes that ``read`` returns on each call; errors name ``path``.

        Raises :class:`ModelFormatError` if type and shape take another number of bytes.
        """
        dtype = DType(dtype)
        expected = raw_bytes(dtype, math.prod(shape))
        if size != expected:
            shape_text = "x".join(map(str, shape))
            raise ModelFormatError(path, f"has {size} bytes, but {dtype} of shape {shape_text} takes {expected}")
        return cls(dtype, shape, None, path, read)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes on disk (two ``s4`` values share one)."""
        return raw_bytes(self.dtype, self.size)

    def numpy(self) -> Array:
        """The values as a read-only array of ``dtype.storage``; ``s4`` comes as int8.

        Raises :class:`ModelFormatError` if the file behind it has changed since it was opened.
        """
        if self._array is not None:
            return self._array
        values = decode(self.dtype, self._bytes(), self.size).reshape(self.shape)
        values.setflags(write=False)
        return values

    def raw(self) -> bytes:
        """The bytes as the model directory stores them."""
        if self._array is None and not (self.dtype.bits == 4 and self.size % 2):
            return self._bytes()
        # After an odd number of nibbles, the last nibble in a file may have any value.
        return encode(self.dtype, self.numpy())

    def _bytes(self) -> bytes:
        if self._read is None or self._path is None:
            raise ValueError("a tensor needs an array or a file")
        raw = self._read()
        if len(raw) != self.nbytes:
            raise ModelFormatError(self._path, CHANGED)
        return raw

    def __repr__(self) -> str:
        return f"Tensor({self.dtype}, {self.shape})"


def raw_bytes(dtype: DType, count: int) -> int:
    """Bytes that ``count`` elements take on disk: half, rounded up, for four-bit types."""
    return (count + 1) // 2 if dtype.bits == 4 else count * dtype.storage.itemsize


def decode(dtype: DType, raw: bytes, count: int) -> Array:
    """Flat values from raw little-endian bytes; four-bit types lie low nibble first."""
    if dtype.bits != 4:
        return np.frombuffer(raw, dtype=dtype.storage, count=count).copy()
    # In 16-bit elements, each the two values of a byte.
    signed = dtype is DType.S4
    pairs = np.frombuffer(raw, dtype=np.int8 if signed else np.uint8).astype("<i2" if signed else "<u2")
    low = pairs << 12
    low >>= 12
    low &= 255
    pairs >>= 4
    pairs <<= 8
    pairs |= low
    return pairs.view(dtype.storage)[:count]


def encode(dtype: DType, values: Array) -> bytes:
    """The inverse of :func:`decode`; the last high nibble of an odd count is zero."""
    flat = np.ascontiguousarray(values, dtype=dtype.storage).reshape(-1)
    if dtype.bits != 4:
        return flat.tobytes()
    nibbles = flat.view(np.uint8) & 15
    if nibbles.size % 2:
        nibbles = np.append(nibbles, np.uint8(0))
    return (nibbles[0::2] | (nibbles[1::2] << 4)).tobytes()


def stamp_of(status: os.stat_result) -> tuple[int, int, int]:
    """A stamp that changes with a file: its size, the time of its last change and its inode number."""
    return status.st_size, status.st_mtime_ns, status.st_ino


def _unchanged(path: Path, stamp: tuple[int, int, int]) -> bytes:
    """The bytes of a file that has not changed since it had this stamp."""
    try:
        with path.open("rb", buffering=0) as file:
            raw = file.readall()
            is_unchanged = stamp_of(os.fstat(file.fileno())) == stamp
    except OSError as error:
        raise ModelFormatError(path, f"cannot be read: {error.strerror or error}") from error
    if not is_unchanged:
        raise ModelFormatError(path, CHANGED)
    return raw
