"""How values are stored while a network runs, as ``native/base/tensor.h`` defines it."""

from __future__ import annotations

from nybble import _native
from nybble.graph import DType
from nybble.lower import Value

#: How values of each type are stored while a network runs.
ELEMENTS = {
    DType.U4: "u8",
    DType.U7: "u8",
    DType.U8: "u8",
    DType.S4: "s8",
    DType.S8: "s8",
    DType.U31: "s32",
    DType.S32: "s32",
    DType.F32: "f32",
}


def stored_shape(value: Value) -> tuple[int, int, int]:
    """(channels, height, width) of a value; vectors are images of one pixel."""
    shape = value.shape
    return (shape[0], shape[1], shape[2]) if len(shape) == 3 else (shape[0], 1, 1)


def stored_channels(value: Value) -> int:
    """Channels from one pixel to the next, including the padding, which the network's input lacks."""
    channels = value.shape[0]
    return channels if value.is_input else -(-channels // _native.CHANNEL_ALIGN) * _native.CHANNEL_ALIGN


def stored_bytes(value: Value) -> int:
    """Bytes of a value of one image."""
    _, height, width = stored_shape(value)
    return stored_channels(value) * height * width * (1 if ELEMENTS[value.dtype].endswith("8") else 4)


def has_lists(value: Value) -> bool:
    """Whether lists of the non-zero groups of a value can be made: it is unsigned and stored with channel padding."""
    return not value.dtype.is_signed and not value.is_input
