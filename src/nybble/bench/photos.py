"""What the contestants look at: decoded photos in a file that all of them read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nybble.graph import Preprocessing
from nybble.graph.types import Array
from nybble.images import LabelledFolder, batches

#: Photos where there are none: enough for a few rounds.
SYNTHETIC = 128


@dataclass(frozen=True)
class Photos:
    """Decoded photos: uint8 (N, H, W, C), their classes where they have any, and where they come from."""

    samples: Array
    labels: list[int] | None
    source: str

    def __getitem__(self, chosen: slice | Sequence[int] | Array) -> Photos:
        labels = None if self.labels is None else np.array(self.labels)[chosen].tolist()
        return Photos(self.samples[chosen], labels, self.source)

    def __len__(self) -> int:
        return len(self.samples)


def read_photos(
    folder: Path, preprocessing: Preprocessing, limit: int | None = None, classes: int | None = None
) -> Photos:
    """The photos of a folder with a ``labels.csv``, resized and cropped. Raises :class:`ImageError` naming the file."""
    listed = LabelledFolder(folder, limit, classes=classes)
    samples = np.concatenate([part for part, _ in batches(listed, preprocessing, batch=32)])
    return Photos(samples, [photo.label for photo in listed], f"{len(listed)} photos of {folder.name}")


def noise(count: int, preprocessing: Preprocessing, seed: int = 1) -> Photos:
    """Photos without a subject: blocks of random colour with grain, so that neighbours resemble each other."""
    rng = np.random.default_rng(seed)
    rows, columns = preprocessing.crop
    channels = len(preprocessing.mean)
    coarse = rng.integers(0, 256, (count, -(-rows // 16), -(-columns // 16), channels))
    blocks = coarse.repeat(16, axis=1).repeat(16, axis=2)[:, :rows, :columns]
    samples = np.clip(blocks + rng.integers(-20, 21, blocks.shape), 0, 255).astype(np.uint8)
    return Photos(samples, None, f"{count} SYNTHETIC photos (blocks of noise)")
