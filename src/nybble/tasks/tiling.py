"""Images that are larger or smaller than the input of a network, in tiles that overlap."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from nybble.graph.types import Array


class Tile(NamedTuple):
    """A tile along one axis: its start, and the part of the image that is taken from it."""

    start: int
    first: int
    last: int


def tiles(extent: int, size: int, overlap: int) -> list[Tile]:
    """Tiles of ``size`` that cover ``extent``, which is at least ``size``.

    The part taken from a tile is at least ``overlap`` away from its edges, except at the edges of the image.

    Raises
    ------
    ValueError
        If tiles of this size cannot overlap by that much.
    """
    step = size - 2 * overlap
    if extent > size and step < 1:
        raise ValueError(f"tiles of {size} pixels cannot overlap by {overlap} on either side")
    starts = [*range(0, extent - size, step), extent - size] if extent > size else [0]
    bounds = [(start + after + size) // 2 for start, after in pairwise(starts)]
    return [Tile(*entry) for entry in zip(starts, [0, *bounds], [*bounds, extent], strict=True)]


def run_tiled(run: Callable[[Array], Array], samples: Array, size: tuple[int, int], overlap: int) -> Array:
    """Run a network on an image of another size than its input.

    If no output depends on a pixel farther away than ``overlap``, the result equals that of the whole image, provided
    that the image is not smaller than the input. Smaller images are mirrored at their edges.

    Parameters
    ----------
    run : callable
        From samples (rows, columns, channels) of ``size`` to an output (channels, rows, columns), of the same size or a
        multiple of it.
    samples : ndarray
        (rows, columns, channels).
    size : (int, int)
        Rows and columns of the input.
    overlap : int
        Pixels.

    Returns
    -------
    ndarray
        (channels, rows, columns), in the multiple of the image's size.

    Raises
    ------
    ValueError
        As :func:`tiles`, or where the output is not a multiple of the input.
    """
    rows, columns = samples.shape[:2]
    missing = [(0, max(0, wanted - have)) for wanted, have in zip(size, (rows, columns), strict=True)]
    padded = np.pad(samples, [*missing, (0, 0)], mode="symmetric")
    made: Array | None = None
    factor = 1
    for vertical in tiles(padded.shape[0], size[0], overlap):
        for across in tiles(padded.shape[1], size[1], overlap):
            tile = padded[vertical.start : vertical.start + size[0], across.start : across.start + size[1]]
            output = run(np.ascontiguousarray(tile))
            if made is None:
                factor = output.shape[1] // size[0]
                if output.shape[1:] != (factor * size[0], factor * size[1]):
                    raise ValueError(f"an output of {output.shape[1:]} is not a multiple of the input {size}")
                extent = factor * padded.shape[0], factor * padded.shape[1]
                made = np.empty((len(output), *extent), dtype=output.dtype)
            place = (
                slice(None),
                slice(factor * vertical.first, factor * vertical.last),
                slice(factor * across.first, factor * across.last),
            )
            top, left = factor * vertical.start, factor * across.start
            made[place] = output[
                :, place[1].start - top : place[1].stop - top, place[2].start - left : place[2].stop - left
            ]
    assert made is not None  # noqa: S101
    return made[:, : factor * rows, : factor * columns]
