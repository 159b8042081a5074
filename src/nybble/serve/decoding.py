"""Photos of requests: decoded in threads of their own, within limits."""

from __future__ import annotations

import asyncio
import io
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from nybble.images import ImageError
from nybble.serve.errors import BadPhotoError

T = TypeVar("T")

#: Formats that are decoded: others of Pillow are seldom photos, and some of them start programs.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")


class Decoder:
    """Decodes photos of many requests.

    Parameters
    ----------
    workers : int or None
        Threads; by default one for each processor this process may use.
    max_pixels : int
        The largest photo; and together the photos that are decoded at a time, which bounds memory.
    """

    def __init__(self, workers: int | None, max_pixels: int) -> None:
        self._pool = ThreadPoolExecutor(workers or len(os.sched_getaffinity(0)), thread_name_prefix="nybble-decode")
        self._max_pixels = max_pixels
        self._pixels = 0
        self._changed = threading.Condition()

    async def decode(self, photos: Sequence[bytes], prepare: Callable[..., T], *, exif: bool = True) -> list[T]:
        """Prepared photos.

        If the caller is cancelled, photos whose decoding has not begun are dropped.

        Parameters
        ----------
        photos : sequence of bytes
        prepare : callable
            Of a Pillow image and ``exif``, as :meth:`nybble.Engine.prepare`; it is called in several threads at once.
        exif : bool

        Raises
        ------
        BadPhotoError
            For the first photo that cannot be used.
        """
        loop = asyncio.get_running_loop()
        tasks = [loop.run_in_executor(self._pool, self._load, photo, prepare, exif) for photo in photos]
        try:
            samples = await asyncio.gather(*tasks, return_exceptions=True)
        except asyncio.CancelledError:
            for task in tasks:
                task.cancel()
            raise
        loaded: list[T] = []
        for index, sample in enumerate(samples):
            if isinstance(sample, ImageError):
                raise BadPhotoError(index, sample.message)
            if isinstance(sample, BaseException):
                raise sample
            loaded.append(sample)
        return loaded

    def close(self) -> None:
        """End the threads; what has not been begun is dropped."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _load(self, photo: bytes, prepare: Callable[..., T], exif: bool) -> T:
        from PIL import Image, UnidentifiedImageError

        try:
            with Image.open(io.BytesIO(photo), formats=FORMATS) as image:
                pixels = image.width * image.height
                if pixels > self._max_pixels:
                    raise ImageError(
                        None, f"has {image.width}x{image.height} pixels, more than the {self._max_pixels} allowed here"
                    )
                self._take(pixels)
                try:
                    return prepare(image, exif=exif)
                finally:
                    self._give_back(pixels)
        except ImageError:
            raise
        except UnidentifiedImageError as error:
            raise ImageError(None, f"is not an image of the formats {', '.join(FORMATS)}") from error
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise ImageError(None, f"has more than the {self._max_pixels} pixels allowed here") from error
        except Exception as error:  # Pillow's plugins pass on any exception that a damaged file causes.
            raise ImageError(None, f"cannot be decoded: {error}") from error

    def _take(self, pixels: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._pixels + pixels <= self._max_pixels or not self._pixels)
            self._pixels += pixels

    def _give_back(self, pixels: int) -> None:
        with self._changed:
            self._pixels -= pixels
            self._changed.notify_all()
