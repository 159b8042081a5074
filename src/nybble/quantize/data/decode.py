"""The preparation of one photo in the loaders' workers."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image

from nybble.graph import Preprocessing
from nybble.graph.types import Array
from nybble.images import ImageError, decode_photo, fit_photo, load_photo
from nybble.quantize.data.augment import augment, cut, generator
from nybble.quantize.data.photos import Photos
from nybble.quantize.settings import AugmentationConfig

#: Modes that Pillow gives grayscale files.
_GRAY = frozenset(("1", "L", "LA", "I", "I;16", "I;16B", "I;16L", "F"))


class Decoded(NamedTuple):
    """A photo: its samples, uint8 (rows, columns, channels), or the reason why there are none."""

    number: int
    name: str
    samples: Array | None
    kinds: tuple[str, ...]
    failure: str | None


def evaluated(photos: Photos, index: int, preprocessing: Preprocessing) -> Decoded:
    """A photo prepared exactly as for the engine, by :func:`nybble.images.load_photo`; upright if ``photos`` says so.

    Where photos are not resized (``fit`` ``none``), the centre of a larger one is cut out.
    """

    def make(photo: bytes | Array) -> Array:
        if preprocessing.fit != "none":
            return load_photo(photo, preprocessing, exif=photos.exif)
        return fit_photo(cut(decode_photo(photo, exif=photos.exif), preprocessing), preprocessing)[0]

    return _decoded(photos, index, preprocessing, make)


def augmented(
    photos: Photos, index: int, preprocessing: Preprocessing, config: AugmentationConfig, seed: int, epoch: int
) -> Decoded:
    """A photo as :func:`nybble.quantize.data.augment.augment` varies it in one epoch."""
    random = generator(seed, epoch, index)
    return _decoded(
        photos,
        index,
        preprocessing,
        lambda photo: augment(decode_photo(photo, exif=photos.exif), preprocessing, config, random),
    )


def _decoded(
    photos: Photos, index: int, preprocessing: Preprocessing, make: Callable[[bytes | Array], Array]
) -> Decoded:
    name = photos.name(index)
    try:
        content = photos.read(index)
        if isinstance(content, bytes) and not content:
            return Decoded(index, name, None, (), "is empty")
        samples = make(content)
        kinds = _kinds(content, preprocessing)
    except ImageError as error:
        return Decoded(index, name, None, (), error.message)
    except OSError as error:
        return Decoded(index, name, None, (), error.strerror or str(error))
    return Decoded(index, name, samples, kinds, None)


def _kinds(content: bytes | Array, preprocessing: Preprocessing) -> tuple[str, ...]:
    if isinstance(content, np.ndarray):
        gray, cmyk, size = content.ndim == 2, False, content.shape[:2]
    else:
        # The header only: nothing is decoded a second time.
        with Image.open(io.BytesIO(content)) as image:
            gray, cmyk, size = image.mode in _GRAY, image.mode == "CMYK", image.size
    # A network of one channel reads grayscale as it is.
    found = {"gray": gray and len(preprocessing.mean) == 3, "cmyk": cmyk, "tiny": min(size) < min(preprocessing.crop)}
    return tuple(kind for kind, present in found.items() if present)
