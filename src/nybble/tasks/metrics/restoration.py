"""Peak signal-to-noise ratio."""

from __future__ import annotations

import math

import numpy as np

from nybble.graph.types import Array


def psnr(image: Array, clean: Array) -> float:
    """PSNR in dB of samples of 0 to 1; infinite for equal images.

    Raises
    ------
    ValueError
        Where the shapes differ.
    """
    if image.shape != clean.shape:
        raise ValueError(f"the image has the shape {image.shape}, but the clean one has {clean.shape}")
    error = float(np.mean((image.astype(np.float64) - clean.astype(np.float64)) ** 2))
    return math.inf if error == 0 else -10 * math.log10(error)


class RestorationMetric:
    """The mean of the PSNR of photos, in dB."""

    name = "PSNR"

    def __init__(self) -> None:
        self.decibels: list[float] = []

    def __len__(self) -> int:
        return len(self.decibels)

    def add(self, image: Array, clean: Array) -> None:
        """Add a photo: samples of 0 to 1 of both, of one shape."""
        self.decibels.append(psnr(image, clean))

    def value(self, weights: Array | None = None) -> float:
        """The mean in dB; see :class:`Metric`."""
        if not self.decibels:
            return float("nan")
        return float(np.average(self.decibels, weights=weights))

    def values(self, weights: Array) -> Array:
        """:meth:`value` for each row of (resamples, photos) weights."""
        return np.array([self.value(row) for row in weights])
