"""The layout of values in device memory, as ``native/gpu/kernels/tensor.h`` defines it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from nybble.graph.types import SUMS, Array
from nybble.lower import Step, Value


class Form(IntEnum):
    """Two channels per byte, the first in the low nibble; one per byte; one in 32 bits, a sum or a float32."""

    NIBBLES = 0
    BYTES = 1
    WORDS = 2


#: Channels are padded to a multiple: 32 bytes, the depth of one product, for what convolutions read.
_MULTIPLE = {Form.NIBBLES: 64, Form.BYTES: 32, Form.WORDS: 8}
#: Products that one output of signed 4-bit values may sum where a GPU multiplies them as bytes, 16 times as large each:
#: 8 * 8 * 256 times so many stay within 32 bits.
MOST_NIBBLE_PRODUCTS = (1 << 31) // (8 * 8 * 256) - 1


@dataclass(frozen=True)
class Stored:
    """A value as it is stored: NHWC, channels padded.

    Attributes
    ----------
    value : Value
    form : Form
    """

    value: Value
    form: Form

    @property
    def channels(self) -> int:
        """Number of channels without the padding."""
        return self.value.shape[0]

    @property
    def extents(self) -> tuple[int, int]:
        """Rows and columns; a vector is an image of one pixel."""
        shape = self.value.shape
        return (shape[1], shape[2]) if len(shape) == 3 else (1, 1)

    @property
    def pixels(self) -> int:
        """Number of pixels of one image."""
        height, width = self.extents
        return height * width

    @property
    def pitch(self) -> int:
        """Channels from one pixel to the next."""
        multiple = _MULTIPLE[self.form]
        return -(-self.channels // multiple) * multiple

    @property
    def pixel_bytes(self) -> int:
        """Bytes from one pixel to the next."""
        return self.pitch // 2 if self.form is Form.NIBBLES else self.pitch * (1 if self.form is Form.BYTES else 4)

    @property
    def nbytes(self) -> int:
        """Bytes of one image."""
        return self.pixels * self.pixel_bytes

    def decode(self, data: Array, images: int) -> Array:
        """(N, C, H, W) or (N, C) elements in the type's storage, from the bytes of ``images`` images."""
        dtype = self.value.dtype
        rows = data.reshape(images * self.pixels, self.pixel_bytes)
        if self.form is Form.NIBBLES:
            codes = unpack_nibbles(rows, dtype.is_signed)
        elif self.form is Form.BYTES:
            codes = rows.view(np.int8 if dtype.is_signed else np.uint8)
        else:
            codes = rows.view(dtype.storage)
        image = codes[:, : self.channels].reshape(images, *self.extents, self.channels).transpose(0, 3, 1, 2)
        return np.ascontiguousarray(image.astype(dtype.storage)).reshape(images, *self.value.shape)


def unpack_nibbles(data: Array, is_signed: bool) -> Array:
    """Codes (..., 2 n) of bytes (..., n), low nibbles first: uint8, or int8 if they are signed."""
    codes = np.stack([data & 15, data >> 4], axis=-1).reshape(*data.shape[:-1], 2 * data.shape[-1])
    return (((codes ^ 8).astype(np.int16)) - 8).astype(np.int8) if is_signed else codes


def pack_nibbles(codes: Array) -> Array:
    """The inverse of :func:`unpack_nibbles`: uint8 (..., n) of codes (..., 2 n)."""
    nibbles = codes.astype(np.int64) & 15
    packed: Array = (nibbles[..., 0::2] | nibbles[..., 1::2] << 4).astype(np.uint8)
    return packed


def forms(steps: list[Step]) -> dict[str, Form]:
    """The form of every value, by name: nibbles for 4-bit codes, unless a convolution has wider weights for them."""
    values = {value.name: value for step in steps for value in (*step.inputs, step.result)}
    found = {name: _narrowest(value) for name, value in values.items()}
    for step in steps:
        conv = step.conv
        if conv is None or conv.groups > 1:
            continue
        products = step.input.shape[0] * conv.window.kernel_size.rows * conv.window.kernel_size.columns
        if conv.weight.dtype.bits > 4 or products > MOST_NIBBLE_PRODUCTS:
            found[step.source] = Form.BYTES
    return found


def _narrowest(value: Value) -> Form:
    if value.dtype in SUMS or value.dtype.is_float:
        return Form.WORDS
    return Form.NIBBLES if value.dtype.bits == 4 else Form.BYTES
