"""The engine for servers written elsewhere: photos to classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import nybble


class Classifier:
    """Decodes and prepares photos as nybble's server does, and runs them in batches."""

    def __init__(self, model: str, threads: int) -> None:
        self.engine = nybble.load(model, threads=threads)

    def prepare(self, photo: bytes) -> Any:
        """A decoded and cropped photo, uint8 (H, W, C)."""
        return self.engine.prepare(photo)

    def run(self, photos: Sequence[Any]) -> list[int]:
        """The likeliest class of each photo."""
        answer = self.engine(np.stack(photos))
        return [int(index) for index in answer.reshape(len(photos), -1).argmax(axis=1)]
