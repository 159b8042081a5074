"""CIFAR-10 in JPEG files, decoded once to arrays."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image
from records import DATA, WORK

from nybble.quantize.data import MemoryPhotos, Subset, ZipPhotos, split

#: Share of the training images, class by class, on which everything is chosen.
SELECTION = 0.1
SEED = 0


def photos(name: str) -> MemoryPhotos:
    """All images of ``train.zip`` or ``test.zip``, in the archive's order by name."""
    cache = WORK / f"cifar10-{name}.npz"
    if not cache.is_file():
        archive = ZipPhotos(DATA / "cifar10-jpeg" / f"{name}.zip")
        samples = np.empty((len(archive), 32, 32, 3), dtype=np.uint8)
        for index in range(len(archive)):
            with Image.open(io.BytesIO(archive.read(index))) as image:
                samples[index] = np.asarray(image.convert("RGB"))
        labels = np.array([archive.label(index) for index in range(len(archive))])
        names = np.array([archive.name(index) for index in range(len(archive))])
        cache.parent.mkdir(parents=True, exist_ok=True)
        np.savez(cache, samples=samples, labels=labels, names=names)
    with np.load(cache) as stored:
        return MemoryPhotos(stored["samples"], stored["labels"].tolist(), stored["names"].tolist())


def training() -> tuple[Subset, Subset]:
    """45,000 images to train on, and 5,000 to choose on."""
    return split(photos("train"), SELECTION, SEED)
