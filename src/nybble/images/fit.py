"""How a photo is brought to the size of an input, and the way back for points, boxes and maps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nybble.graph import Preprocessing
from nybble.graph.types import Array
from nybble.images.errors import ImageError

if TYPE_CHECKING:
    from PIL import Image

#: Most pixels a photo may have, before and after the resize. Pillow's own limit, under which it decodes silently.
MAX_PIXELS = 89_478_485


@dataclass(frozen=True)
class Fit:
    """Where a photo of some size lies in an input.

    A point ``x`` of the photo is ``x * factor + left`` of the input, and rows likewise. Coordinates are those of edges:
    the first pixel covers 0 to 1.

    Attributes
    ----------
    photo : (int, int)
        Rows and columns of the photo.
    resized : (int, int)
        Rows and columns that it is resized to.
    top, left : int
        Where the corner of the resized photo lies in the input; negative where it is cut off.
    size : (int, int)
        Rows and columns of the input.
    ratio : float, optional
        The factor of points and boxes, where it is not ``resized / photo``: that of a letterbox before its size was
        rounded down, as YOLOX has it.
    """

    photo: tuple[int, int]
    resized: tuple[int, int]
    top: int
    left: int
    size: tuple[int, int]
    ratio: float | None = None

    @classmethod
    def of(cls, width: int, height: int, preprocessing: Preprocessing, path: Path | None = None) -> Fit:
        """How a photo of ``width`` by ``height`` pixels lies in the input of a preprocessing.

        Raises
        ------
        ImageError
            If the photo would be too large after resizing or, with ``fit`` ``none``, has another size. The text names
            ``path``.
        """
        rows, columns = size = preprocessing.crop
        if preprocessing.fit == "none":
            if (height, width) != size:
                raise ImageError(path, f"has {width}x{height} pixels, but the model takes {columns}x{rows} only")
            return cls((height, width), size, 0, 0, size)
        if preprocessing.fit == "stretch":
            return cls((height, width), size, 0, 0, size)
        if preprocessing.fit == "letterbox":
            # The whole number of pixels below; at least one, for very long photos.
            ratio = min(rows / height, columns / width)
            resized = max(1, min(rows, int(height * ratio))), max(1, min(columns, int(width * ratio)))
            border = rows - resized[0], columns - resized[1]
            top, left = (border[0] // 2, border[1] // 2) if preprocessing.placement == "centre" else (0, 0)
            return cls((height, width), resized, top, left, size, ratio)
        resized = _by_short_side(width, height, preprocessing.resize, path)
        # Python's round goes to even on ties, in torchvision too.
        return cls((height, width), resized, -round((resized[0] - rows) / 2), -round((resized[1] - columns) / 2), size)

    def apply(self, photo: Image.Image, preprocessing: Preprocessing) -> Array:
        """uint8 (rows, columns, channels) of a Pillow image in mode RGB or L, in the order of its channels."""
        from PIL import Image

        rows, columns = self.resized
        if (photo.height, photo.width) != self.resized:
            photo = photo.resize((columns, rows), Image.Resampling[preprocessing.interpolation.upper()])
        if self.size == self.resized:
            return np.array(photo).reshape(*self.size, -1)
        if preprocessing.fit == "letterbox":
            channels = len(photo.getbands())
            samples = np.full((*self.size, channels), preprocessing.fill, dtype=np.uint8)
            samples[self.top : self.top + rows, self.left : self.left + columns] = np.asarray(photo).reshape(
                rows, columns, channels
            )
            return samples
        top, left = -self.top, -self.left
        return np.array(photo.crop((left, top, left + self.size[1], top + self.size[0]))).reshape(*self.size, -1)

    def points_to_photo(self, points: Array) -> Array:
        """(..., 2) points x, y of the input to float32 points of the photo, clipped to it."""
        height, width = self.photo
        moved = (np.asarray(points, dtype=np.float64) - (self.left, self.top)) / self._factors()
        clipped: Array = np.clip(moved, 0, (width, height)).astype(np.float32)
        return clipped

    def points_to_input(self, points: Array) -> Array:
        """(..., 2) points x, y of the photo to float32 points of the input; those that are cut off lie outside."""
        moved = np.asarray(points, dtype=np.float64) * self._factors() + (self.left, self.top)
        return moved.astype(np.float32)

    def _factors(self) -> Array:
        """Factors of columns and of rows: pixels of the input per pixel of the photo."""
        if self.ratio is not None:
            return np.array((self.ratio, self.ratio))
        return np.array((self.resized[1] / self.photo[1], self.resized[0] / self.photo[0]))

    def boxes_to_photo(self, boxes: Array) -> Array:
        """(N, 4) boxes x1, y1, x2, y2 of the input to float32 boxes of the photo, clipped to it."""
        return self.points_to_photo(np.asarray(boxes).reshape(-1, 2, 2)).reshape(-1, 4)

    def boxes_to_input(self, boxes: Array) -> Array:
        """The inverse of :meth:`boxes_to_photo` for boxes that are not cut off."""
        return self.points_to_input(np.asarray(boxes).reshape(-1, 2, 2)).reshape(-1, 4)

    def positions(self, shape: tuple[int, int]) -> tuple[Array, Array]:
        """Where the centres of the photo's rows and columns lie in a map of ``shape`` that covers the input.

        Returns
        -------
        rows, columns : ndarray
            float64, in the map's pixels by their edges: negative, or past ``shape``, where the photo is cut off.
        """
        places = []
        for axis, start in enumerate((self.top, self.left)):
            # Multiply before dividing: the result is exact where a centre lies on the edge of a pixel.
            centres = (np.arange(self.photo[axis]) + 0.5) * self.resized[axis] / self.photo[axis] + start
            places.append(centres * shape[axis] / self.size[axis])
        return places[0], places[1]

    def map_to_photo(self, labels: Array, outside: int) -> Array:
        """A map (rows, columns) that covers the input, at the photo's size, by the nearest pixel.

        Parameters
        ----------
        labels : ndarray
            (rows, columns), of any size and dtype.
        outside : int
            The value of pixels of the photo that are not in the input.
        """
        rows, columns = self.positions((labels.shape[0], labels.shape[1]))
        row, column = np.floor(rows).astype(np.int64), np.floor(columns).astype(np.int64)
        found: Array = labels[
            np.clip(row, 0, labels.shape[0] - 1)[:, None], np.clip(column, 0, labels.shape[1] - 1)[None, :]
        ]
        out_of_rows = (row < 0) | (row >= labels.shape[0])
        out_of_columns = (column < 0) | (column >= labels.shape[1])
        if out_of_rows.any() or out_of_columns.any():
            found[out_of_rows[:, None] | out_of_columns[None, :]] = outside
        return found


def _by_short_side(width: int, height: int, target: int, path: Path | None) -> tuple[int, int]:
    """Rows and columns once the short side has ``target`` pixels, as torchvision rounds them."""
    short, long = sorted((width, height))
    if short == target:
        return height, width
    target_long = int(target * long / short)
    if target * target_long > MAX_PIXELS:
        raise ImageError(path, f"of {width}x{height} pixels would have {target}x{target_long} once it is resized")
    return (target_long, target) if width <= height else (target, target_long)
