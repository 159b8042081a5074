"""From the scores of pixels to a map of classes at the size of the photo."""

from __future__ import annotations

import numpy as np

from nybble.graph import Segment
from nybble.graph.types import Array
from nybble.images import Fit

#: Elements of the scores that are interpolated at a time.
_BLOCK = 1 << 22


def decode_map(task: Segment, output: Array, fit: Fit) -> Array:
    """The class of every pixel of a photo.

    Scores are interpolated between pixels of the output (bilinear, half-pixel centres) before the best class is taken.
    If the output has the photo's size, they are not interpolated.

    Parameters
    ----------
    task : Segment
    output : ndarray
        (classes, rows, columns) of one photo, of any size: it covers the input.
    fit : Fit
        Where the photo lies in the input.

    Returns
    -------
    ndarray
        int64 (rows, columns) of the photo; -1 where it is cut off.

    Raises
    ------
    GraphError
        Where the output is not a map.
    """
    if output.ndim == 2:
        output = output[None]
    if output.ndim != 3:
        raise task.error("output", f"{task.output} has the shape {output.shape}, not (classes, rows, columns)")
    output = output.astype(np.float32, copy=False)
    if len(output) == 1:
        labels = output[0] > task.threshold if task.threshold is not None else np.rint(output[0])
        return fit.map_to_photo(labels.astype(np.int64), -1)
    shape = (output.shape[1], output.shape[2])
    rows, columns = fit.positions(shape)
    row, column = _weights(rows, shape[0]), _weights(columns, shape[1])
    found = np.empty((len(rows), len(columns)), dtype=np.int64)
    step = max(1, _BLOCK // (len(output) * len(columns)))
    for first in range(0, len(rows), step):
        part = tuple(values[first : first + step] for values in row)
        between = _mixed(output, part, 1)
        found[first : first + step] = _mixed(between, column, 2).argmax(axis=0)
    outside = ((rows < 0) | (rows >= shape[0]))[:, None] | ((columns < 0) | (columns >= shape[1]))[None, :]
    found[outside] = -1
    return found


def _weights(places: Array, extent: int) -> tuple[Array, Array, Array]:
    """The pixels below and above each place, and the share of the one above."""
    centre = np.clip(places - 0.5, 0, extent - 1)
    below = np.floor(centre).astype(np.int64)
    return below, np.minimum(below + 1, extent - 1), centre - below


def _mixed(values: Array, weights: tuple[Array, ...], axis: int) -> Array:
    below, above, share = weights
    if not share.any():
        return values.take(below, axis=axis)
    shape = [1] * values.ndim
    shape[axis] = -1
    part = share.reshape(shape).astype(values.dtype)
    found: Array = values.take(below, axis=axis) * (1 - part) + values.take(above, axis=axis) * part
    return found
