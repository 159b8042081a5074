"""Compares the outputs of two networks that are not classifiers: noise as a share of each output's energy."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from nybble.graph import Preprocessing
from nybble.graph.types import Array
from nybble.progress import Progress, silent
from nybble.quantize.data import Loader, PhotoReport, Photos
from nybble.quantize.errors import QuantizeError

#: From normalised images (N, C, H, W) to outputs by name, batch first.
Outputs = Callable[[Tensor], Mapping[str, Array]]


@dataclass(frozen=True)
class OutputEvaluation:
    """Outputs of a network against those of the float network, over photos.

    Attributes
    ----------
    noise : dict of str to float
        By output, the squared error as a share of the float output's energy; 0 for the float network itself.
    images : int
    report : PhotoReport
    """

    noise: dict[str, float]
    images: int
    report: PhotoReport = field(default_factory=PhotoReport)

    @property
    def mean_noise(self) -> float:
        """Over the outputs."""
        return sum(self.noise.values()) / max(1, len(self.noise))

    def decibels(self) -> dict[str, float]:
        """Signal-to-noise ratio of each output; infinite without noise."""
        return {name: -10 * math.log10(share) if share > 0 else math.inf for name, share in self.noise.items()}

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "images": self.images,
            "noise": self.noise,
            "mean_noise": self.mean_noise,
            "photos": self.report.to_dict(),
        }


def evaluate_outputs(
    network: Outputs,
    reference: Outputs,
    photos: Photos,
    preprocessing: Preprocessing,
    *,
    batch: int = 16,
    workers: int = 0,
    progress: Progress = silent,
    what: str = "evaluating",
) -> OutputEvaluation:
    """Compare the outputs of two networks on photos as the engine would see them.

    Outputs are matched by their order; the names are those of ``reference``.

    Raises
    ------
    QuantizeError
        If not a single photo can be read, or an output is NaN or infinite.
    """
    loader = Loader(photos, preprocessing, batch=batch, workers=workers)
    energy: dict[str, float] = {}
    error: dict[str, float] = {}
    images = 0
    for found in loader.in_order():
        wanted = reference(found.images)
        for (name, exact), value in zip(wanted.items(), network(found.images).values(), strict=True):
            difference = np.asarray(value, np.float64) - exact
            if not np.isfinite(difference).all():
                raise QuantizeError(
                    f"the output {name} is NaN or infinite; the network's weights or ranges are damaged"
                )
            energy[name] = energy.get(name, 0.0) + float(np.square(exact, dtype=np.float64).sum())
            error[name] = error.get(name, 0.0) + float(np.square(difference).sum())
        images += len(found.images)
        progress(what, int(found.indices[-1]) + 1, len(photos))
    progress(what, len(photos), len(photos))
    if not images:
        raise QuantizeError("there are no photos to evaluate on")
    noise = {name: error[name] / max(energy[name], 1e-30) for name in energy}
    return OutputEvaluation(noise, images, loader.report)
