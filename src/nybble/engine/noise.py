"""Inputs to use without photos: seeded noise with structure at several sizes."""

from __future__ import annotations

import numpy as np

from nybble.graph import Graph
from nybble.graph.types import Array


def noise_inputs(graph: Graph, count: int, seed: int = 0) -> Array:
    """(count, C, H, W) integers of a network's input type, (count, C) for a vector.

    Each is a sum of noise in cells of 1 to 32 pixels. With plain noise the zeros among activations would differ from
    those of photos.
    """
    entry = graph.inputs[0]
    random = np.random.default_rng(seed)
    low, high = entry.dtype.minimum, entry.dtype.maximum
    total = np.zeros((count, *entry.shape), np.float32)
    for cell in (1, 2, 4, 8, 16, 32):
        if len(entry.shape) < 3:
            total += random.standard_normal(total.shape, dtype=np.float32)
            continue
        channels, height, width = entry.shape
        coarse = random.standard_normal((count, channels, -(-height // cell), -(-width // cell)), dtype=np.float32)
        total += coarse.repeat(cell, axis=2).repeat(cell, axis=3)[:, :, :height, :width]
    # Six summands of variance 1; a quarter of the type's range is one deviation.
    scaled = np.rint((low + high) / 2 + total / np.float32(6**0.5) * ((high - low) / 4))
    result: Array = np.clip(scaled, low, high).astype(entry.dtype.storage)
    return result
