"""Answers drawn on photos with Pillow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from nybble.graph.types import Array

if TYPE_CHECKING:
    from PIL import Image

    from nybble.images import PhotoSource

#: How much of a map's colour covers the photo.
OPACITY = 0.55


def voc_palette(count: int) -> Array:
    """uint8 (count, 3): the colours of PASCAL VOC, which follow from the bits of a class's number; class 0 is black."""
    number = np.arange(count)
    colours = np.zeros((count, 3), dtype=np.uint8)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= (((number >> (3 * bit + channel)) & 1) << (7 - bit)).astype(np.uint8)
    return colours


def palette_of(colours: Sequence[str], count: int) -> Array:
    """uint8 (count, 3): colours given as ``RRGGBB``, and those of :func:`voc_palette` for the other classes."""
    table = voc_palette(count)
    for place, colour in enumerate(colours[:count]):
        table[place] = list(bytes.fromhex(colour))
    return table


def opened(photo: PhotoSource) -> Image.Image:
    """A copy in mode RGB to draw on, turned upright."""
    from nybble.images import decode_photo

    return decode_photo(photo).copy()


def draw_boxes(photo: PhotoSource, boxes: Array, labels: Array, texts: Sequence[str]) -> Image.Image:
    """Rectangles, each with a text at its top left corner.

    Parameters
    ----------
    photo : photo
    boxes : ndarray
        (N, 4) in pixels of the photo, best first; the best is drawn last.
    labels : ndarray
        (N): boxes of one label have one colour.
    texts : sequence of str
    """
    from PIL import ImageDraw, ImageFont

    image = opened(photo)
    draw = ImageDraw.Draw(image)
    size = max(10, min(image.size) // 40)
    width = max(1, min(image.size) // 200)
    font = ImageFont.load_default(size)
    for box, label, text in reversed(list(zip(boxes.tolist(), labels.tolist(), texts, strict=True))):
        colour = _bright(label)
        draw.rectangle(box, outline=colour, width=width)
        left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
        x = max(0, min(box[0], image.width - (right - left)))
        y = max(0, box[1] - (bottom - top) - 2 * width)
        draw.rectangle((x, y, x + right - left + 2 * width, y + bottom - top + 2 * width), fill=colour)
        draw.text((x + width - left, y + width - top), text, fill="black", font=font)
    return image


def draw_map(photo: PhotoSource, labels: Array, colours: Array, hidden: Sequence[int]) -> Image.Image:
    """A map (rows, columns) of classes over a photo of the same size; classes in ``hidden`` are not drawn.

    Raises
    ------
    ValueError
        Where the sizes differ.
    """
    from PIL import Image

    image = np.asarray(opened(photo))
    if image.shape[:2] != labels.shape:
        raise ValueError(f"the map has the size {labels.shape}, but the photo has {image.shape[:2]}")
    shown = (labels >= 0) & (labels < len(colours)) & ~np.isin(labels, hidden)
    colour = colours[np.where(shown, labels, 0)]
    mixed = np.rint(image * (1 - OPACITY) + colour * OPACITY).astype(np.uint8)
    return Image.fromarray(np.where(shown[..., None], mixed, image))


def draw_polygons(photo: PhotoSource, polygons: Array) -> Image.Image:
    """Outlines of (N, K, 2) corners x, y."""
    from PIL import ImageDraw

    image = opened(photo)
    draw = ImageDraw.Draw(image)
    width = max(1, min(image.size) // 250)
    for polygon in polygons.tolist():
        draw.polygon([tuple(point) for point in polygon], outline=(255, 64, 64), width=width)
    return image


def _bright(label: int) -> tuple[int, int, int]:
    """A colour on which black text can be read; neighbouring labels differ by the golden angle."""
    import colorsys

    red, green, blue = colorsys.hsv_to_rgb((label * 0.6180339887) % 1, 0.55, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)
