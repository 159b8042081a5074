"""Photos in files: what :func:`nybble.images.open_photos` finds."""

from __future__ import annotations

from pathlib import Path

from nybble.graph.types import Array
from nybble.images import PhotoFiles, open_photos
from nybble.quantize.data.photos import Photos


class FilePhotos(Photos):
    """Photos of a folder or a list.

    Parameters
    ----------
    photos : PhotoFiles, str or Path
        Or what :func:`nybble.images.open_photos` opens.
    exif : bool
        Whether they are turned upright.

    Raises
    ------
    ImageError
        As :func:`nybble.images.open_photos`.
    """

    def __init__(self, photos: PhotoFiles | str | Path, *, exif: bool = False) -> None:
        self._files = photos if isinstance(photos, PhotoFiles) else open_photos(photos)
        self.classes, self.left_out, self.exif = self._files.classes, self._files.left_out, exif

    def __len__(self) -> int:
        return len(self._files)

    def name(self, index: int) -> str:
        """Name of a photo."""
        return self._files[index].file

    def label(self, index: int) -> int | None:
        """Class of a photo."""
        return self._files[index].label

    def read(self, index: int) -> bytes | Array:
        """A photo's content."""
        return self._files[index].path.read_bytes()
