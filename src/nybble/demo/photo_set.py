"""A folder of labelled photos for trying commands: ``python -m nybble.demo.photo_set FOLDER``.

The photos are parts of those that installed packages contain (:mod:`nybble.demo.photos`). They show that commands work.
Accuracy on them says little, since a few photos are repeated in many crops.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nybble.demo.errors import DemoError
from nybble.demo.photos import samples

if TYPE_CHECKING:
    from PIL.Image import Image

#: The least share of a side that a crop keeps.
_LEAST = 0.85
#: Labels: the class of ImageNet-1k that EfficientNet-Lite0 in float gives to the whole photo.
_CLASSES = {"chelsea.png": 282, "coffee.png": 967, "motorcycle_left.png": 665, "camera.png": 872, "rocket.jpg": 657}
_QUALITY = 90


def write_photo_set(folder: Path, count: int, seed: int = 0) -> list[tuple[str, int]]:
    """Write JPEG photos and a ``labels.csv`` with the columns ``file`` and ``label``.

    Parameters
    ----------
    folder : Path
        Must not exist or be empty.
    count : int
        How many photos. The sample photos take turns; each photo is another random crop, every second one mirrored.
    seed : int
        Seed of the crops.

    Returns
    -------
    list of (str, int)
        File names, and classes of ImageNet-1k: those that EfficientNet-Lite0 in float gives to the whole photos.

    Raises
    ------
    DemoError
        If the packages that contain the photos are missing, or the folder is not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DemoError(f"{folder}: exists and is not an empty folder; name another one")
    made = list(_photos(count, seed))
    folder.mkdir(parents=True, exist_ok=True)
    for name, _, photo in made:
        photo.save(folder / name, "JPEG", quality=_QUALITY)
    with (folder / "labels.csv").open("w", encoding="utf-8", newline="") as sink:
        writer = csv.writer(sink, lineterminator="\n")
        writer.writerow(("file", "label"))
        writer.writerows((name, label) for name, label, _ in made)
    return [(name, label) for name, label, _ in made]


def _photos(count: int, seed: int) -> Iterator[tuple[str, int, Image]]:
    from PIL import Image, ImageOps

    usable = [(sample, path) for sample, path in samples() if sample.file in _CLASSES]
    generator = np.random.default_rng(seed)
    for number in range(count):
        sample, path = usable[number % len(usable)]
        with Image.open(path) as opened:
            photo = opened.convert("RGB")
        share = generator.uniform(_LEAST, 1.0)
        width, height = (round(share * side) for side in photo.size)
        left = int(generator.integers(photo.width - width + 1))
        top = int(generator.integers(photo.height - height + 1))
        photo = photo.crop((left, top, left + width, top + height))
        if number // len(usable) % 2:
            photo = ImageOps.mirror(photo)
        yield f"{path.stem}-{number:03}.jpg", _CLASSES[sample.file], photo


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m nybble.demo.photo_set",
        description="Write a folder of labelled photos: crops of the photos that installed packages contain.",
    )
    parser.add_argument("folder", type=Path, help="folder to write; must not exist or be empty")
    parser.add_argument("--count", type=int, default=40, help="number of photos (40)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random crops (0)")
    given = parser.parse_args(arguments)
    if given.count < 1:
        parser.error("--count must be at least 1")
    try:
        written = write_photo_set(given.folder, given.count, given.seed)
    except (DemoError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 3
    sys.stdout.write(f"{len(written)} photos in {given.folder}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
