"""Weights as the kernels read them."""

from __future__ import annotations

import numpy as np

from nybble.backends.cuda.layout import Form, Stored, pack_nibbles
from nybble.graph.types import Array
from nybble.lower import Conv


def column_order(columns: int) -> Array:
    """Which channel each column of a product holds, for a multiple of 32 columns.

    Fragment column 8j + 2q + e of each 32 holds channel 8q + 2j + e: each thread then has eight neighbouring channels.
    """
    column = np.arange(32)
    channel = column // 2 % 4 * 8 + column // 8 * 2 + column % 2
    order: Array = (np.arange(0, columns, 32)[:, None] + channel).reshape(-1)
    return order


def pack_matrix(conv: Conv, source: Stored, columns: int) -> Array:
    """uint8 (columns, taps, bytes of a pixel) of the weights, zero where channels are padding, columns permuted."""
    weights = conv.weights()
    outputs, inputs, height, width = weights.shape
    padded = np.zeros((columns, height * width, source.pitch), np.int8)
    padded[:outputs, :, :inputs] = weights.reshape(outputs, inputs, -1).transpose(0, 2, 1)
    ordered = padded[column_order(columns)]
    return pack_nibbles(ordered) if source.form is Form.NIBBLES else ordered.view(np.uint8)


def pack_groups(conv: Conv, pitch: int) -> Array:
    """int8 (taps, inputs of a group, pitch) of the weights of several groups."""
    weights = conv.weights()
    outputs, inputs = weights.shape[:2]
    packed = np.zeros((weights.shape[2] * weights.shape[3], inputs, pitch), np.int8)
    packed[:, :, :outputs] = weights.reshape(outputs, inputs, -1).transpose(2, 1, 0)
    return packed


def pack_channels(values: Array, dtype: type[np.generic], count: int) -> Array:
    """One number per channel, zero for padding."""
    packed = np.zeros(count, dtype)
    packed[: len(values)] = values
    return packed
