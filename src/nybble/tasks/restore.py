"""From the output of a restoring network to an image."""

from __future__ import annotations

import numpy as np

from nybble.graph import Preprocessing, Restore
from nybble.graph.types import Array


def decode_image(task: Restore, output: Array, samples: Array) -> Array:
    """The image that a network has made.

    Parameters
    ----------
    task : Restore
    output : ndarray
        (channels, rows, columns) of one photo.
    samples : ndarray
        float32 (rows, columns, channels) that the network has read, 1 for white; values outside 0 to 1 are possible.

    Returns
    -------
    ndarray
        float32 (rows, columns, channels), clipped to 0 to 1, in the channel order of the network.

    Raises
    ------
    GraphError
        Where the output is not an image or, for a residual, has another shape than the input.
    """
    if output.ndim != 3 or output.shape[0] not in (1, 3):
        raise task.error("output", f"{task.output} has the shape {output.shape}, not that of an image")
    made = output.transpose(1, 2, 0).astype(np.float32) * np.float32(task.output_scale)
    if task.form == "residual":
        if made.shape != samples.shape:
            raise task.error("form", f"a residual of shape {made.shape} cannot be subtracted from {samples.shape}")
        made = samples - made
    clipped: Array = np.clip(made, 0, 1)
    return clipped


def in_rgb(image: Array, preprocessing: Preprocessing) -> Array:
    """(rows, columns, channels) in RGB order."""
    return image[..., ::-1] if preprocessing.channel_order == "BGR" and image.shape[2] == 3 else image
