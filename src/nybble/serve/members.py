"""The cost of the members of an ensemble while it is served."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nybble.engine import Ensemble
from nybble.engine.ensemble.probabilities import logarithms
from nybble.graph.types import Array
from nybble.serve.metrics import Metrics
from nybble.serve.processor import mean_with


class Members:
    """An ensemble that measures the time of its members, and counts the photos that each runs on.

    Used by the threads that run it.
    """

    def __init__(self, model: str, ensemble: Ensemble, metrics: Metrics) -> None:
        self._ensemble = ensemble
        self._seconds = [0.0] * len(ensemble.members)
        self._counts = [
            metrics.members.labels(model, f"{place}: {member.name}")
            for place, member in enumerate(ensemble.members, start=1)
        ]

    def join(self, parts: Sequence[Array]) -> Array:
        """The photos of a batch: prepared ones, crops for all members, or some of each."""
        if len({part.shape[1:] for part in parts}) > 1:
            crop = self._ensemble.crop_shape
            parts = [self._ensemble.from_crops(part) if part.shape[1:] == crop else part for part in parts]
        return np.concatenate(parts)

    def run(self, photos: Array) -> Array:
        """Logits (N, classes), as those of the ensemble, of photos."""
        answers = self._ensemble.answers(photos)
        for place, seconds in enumerate(answers.seconds):
            asked = int((answers.asked > place).sum())
            if asked:
                self._seconds[place] = mean_with(self._seconds[place], float(seconds) / asked)
                self._counts[place].inc(asked)
        return logarithms(answers.probabilities)

    def dearest(self) -> float:
        """Seconds of a photo that all members run on; members that never ran count as 0."""
        return sum(self._seconds)
