"""The input of all contestants: decoded photos in a file that all of them read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nybble.graph import Preprocessing
from nybble.graph.types import Array
from nybble.images import LeftOut, batches, open_photos

#: Number of drawn photos if none are given: enough for a few rounds.
SYNTHETIC = 128


@dataclass(frozen=True)
class Photos:
    """Decoded photos: uint8 (N, H, W, C), their classes where all have one, where they come from, those left out."""

    samples: Array
    labels: list[int] | None
    source: str
    left_out: LeftOut = field(default_factory=LeftOut)
    exif: bool = False

    def __getitem__(self, chosen: slice | Sequence[int] | Array) -> Photos:
        labels = None if self.labels is None else np.array(self.labels)[chosen].tolist()
        return Photos(self.samples[chosen], labels, self.source, self.left_out, self.exif)

    def __len__(self) -> int:
        return len(self.samples)


def read_photos(
    path: Path,
    preprocessing: Preprocessing,
    limit: int | None = None,
    classes: int | Sequence[str] | None = None,
    *,
    exif: bool = False,
) -> Photos:
    """The photos of a folder or a list, resized and cropped; see :func:`nybble.images.open_photos`.

    Photos that cannot be decoded are left out. Raises :class:`ImageError` where none can.
    """
    found = open_photos(path, limit, classes=classes)
    left_out = LeftOut(found.left_out)
    samples: list[Array] = []
    labels: list[int | None] = []
    for part, entries in batches(found, preprocessing, batch=32, exif=exif, left_out=left_out):
        samples.append(part)
        labels += [entry.label for entry in entries]
    left_out.check(len(labels))
    known = [label for label in labels if label is not None]
    source = f"{len(labels)} photos of {path.name}"
    return Photos(np.concatenate(samples), known if len(known) == len(labels) else None, source, left_out, exif)


def noise(count: int, preprocessing: Preprocessing, seed: int = 1) -> Photos:
    """Photos without a subject: blocks of random colour with grain, so that neighbours resemble each other."""
    rng = np.random.default_rng(seed)
    rows, columns = preprocessing.crop
    channels = len(preprocessing.mean)
    coarse = rng.integers(0, 256, (count, -(-rows // 16), -(-columns // 16), channels))
    blocks = coarse.repeat(16, axis=1).repeat(16, axis=2)[:, :rows, :columns]
    samples = np.clip(blocks + rng.integers(-20, 21, blocks.shape), 0, 255).astype(np.uint8)
    return Photos(samples, None, f"{count} SYNTHETIC photos (blocks of noise)")
