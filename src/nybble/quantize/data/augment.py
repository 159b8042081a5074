"""Random variations of a training photo, all drawn from one generator: a function of (seed, epoch, index)."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from PIL import Image, ImageEnhance

from nybble.graph import Preprocessing
from nybble.graph.types import Array
from nybble.images import Fit, ImageError, load_photo
from nybble.quantize.settings import AugmentationConfig

#: Tries to place a crop of the drawn area and aspect before the largest centred one is taken (Szegedy et al. 2015).
_TRIES = 10


def generator(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The random generator of one photo in one epoch, independent of process and order."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, epoch, index))))


def augment(
    photo: Image.Image, preprocessing: Preprocessing, config: AugmentationConfig, random: np.random.Generator
) -> Array:
    """Crop, flip and colour a photo.

    Parameters
    ----------
    photo : PIL.Image.Image
        In mode RGB, turned as it is to be.
    preprocessing : Preprocessing
        Its crop, interpolation and channels.
    config : AugmentationConfig
    random : numpy Generator

    Returns
    -------
    ndarray
        uint8 (rows, columns, channels): as large as the preprocessing's crop, or ``config.size``.
    """
    if config.crop == "resized":
        photo = _resized_crop(photo, preprocessing, config, random)
    else:
        if preprocessing.fit == "none":
            photo = cut(photo, preprocessing)
        plain = dataclasses.replace(preprocessing, channel_order="RGB")
        photo = Image.fromarray(load_photo(photo, plain, exif=False).squeeze())
        if config.crop == "pad" and config.padding:
            photo = _padded_crop(photo, config.padding, random)
    if config.flip and random.random() < config.flip:
        photo = photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    photo = _coloured(photo, config, random)
    if len(preprocessing.mean) == 1:
        photo = photo.convert("L")
    samples = np.asarray(photo).reshape(photo.height, photo.width, -1)
    return np.ascontiguousarray(samples[..., ::-1]) if preprocessing.channel_order == "BGR" else samples


def cut(photo: Image.Image, preprocessing: Preprocessing, random: np.random.Generator | None = None) -> Image.Image:
    """A crop of a photo of the size of the input: at the centre, or at a random place.

    Raises
    ------
    ImageError
        If the photo is smaller.
    """
    rows, columns = preprocessing.crop
    if photo.height < rows or photo.width < columns:
        raise ImageError(None, f"has {photo.width}x{photo.height} pixels, fewer than the {columns}x{rows} of the input")
    free = photo.width - columns, photo.height - rows
    left, top = (extent // 2 if random is None else int(random.integers(extent + 1)) for extent in free)
    return photo.crop((left, top, left + columns, top + rows))


def _resized_crop(
    photo: Image.Image, preprocessing: Preprocessing, config: AugmentationConfig, random: np.random.Generator
) -> Image.Image:
    """A crop of random area, aspect ratio and place, resized in one step.

    A letterbox keeps the proportions of the crop. If photos are not resized, only the place is random.
    """
    if preprocessing.fit == "none":
        return cut(photo, preprocessing, random)
    width, height = photo.size
    box = None
    for _ in range(_TRIES):
        area = width * height * random.uniform(*config.area)
        aspect = math.exp(random.uniform(math.log(config.aspect[0]), math.log(config.aspect[1])))
        columns, rows = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < columns <= width and 0 < rows <= height:
            left, top = int(random.integers(width - columns + 1)), int(random.integers(height - rows + 1))
            box = (left, top, left + columns, top + rows)
            break
    if box is None:
        narrowest, widest = config.aspect
        columns, rows = min(width, round(height * widest)), min(height, round(width / narrowest))
        left, top = (width - columns) // 2, (height - rows) // 2
        box = (left, top, left + columns, top + rows)
    target_rows, target_columns = preprocessing.crop if config.size is None else (config.size, config.size)
    if preprocessing.fit == "letterbox":
        part = photo.crop(box)
        inner = dataclasses.replace(preprocessing, crop=(target_rows, target_columns))
        return Image.fromarray(Fit.of(part.width, part.height, inner).apply(part, inner))
    return photo.resize((target_columns, target_rows), Image.Resampling[preprocessing.interpolation.upper()], box=box)


def _padded_crop(photo: Image.Image, padding: int, random: np.random.Generator) -> Image.Image:
    """The photo, shifted by up to ``padding`` pixels in each direction and padded with black."""
    left, top = (int(random.integers(2 * padding + 1)) - padding for _ in range(2))
    return photo.crop((left, top, left + photo.width, top + photo.height))


def _coloured(photo: Image.Image, config: AugmentationConfig, random: np.random.Generator) -> Image.Image:
    changes = (
        (config.brightness, ImageEnhance.Brightness),
        (config.contrast, ImageEnhance.Contrast),
        (config.saturation, ImageEnhance.Color),
    )
    for amount, change in changes:
        if amount:
            photo = change(photo).enhance(1 + random.uniform(-amount, amount))
    return photo
