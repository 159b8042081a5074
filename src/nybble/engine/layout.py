"""How values are stored while a network runs, as native/base/tensor.h has it."""

from __future__ import annotations

from nybble import _native
from nybble.graph import DType, Graph

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


def is_tight(graph: Graph, name: str) -> bool:
    """Graph inputs are stored without channel padding."""
    return any(entry.name == name for entry in graph.inputs)


def stored_shape(graph: Graph, name: str) -> tuple[int, int, int]:
    """(channels, height, width) of a value; vectors are images of one pixel."""
    shape = graph.values[name].shape
    return (shape[0], shape[1], shape[2]) if len(shape) == 3 else (shape[0], 1, 1)


def stored_channels(graph: Graph, name: str) -> int:
    """Channels from pixel to pixel, with the padding."""
    channels = stored_shape(graph, name)[0]
    return channels if is_tight(graph, name) else -(-channels // _native.CHANNEL_ALIGN) * _native.CHANNEL_ALIGN
