"""Batches of decoded photos, decoded ahead in threads."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice

import numpy as np

from nybble.graph import Preprocessing
from nybble.graph.types import Array
from nybble.images.collection import PhotoFile
from nybble.images.errors import ImageError
from nybble.images.left_out import LeftOut
from nybble.images.photo import load_photo


def batches(
    photos: Sequence[PhotoFile],
    preprocessing: Preprocessing | Callable[..., Array],
    *,
    batch: int = 8,
    workers: int | None = None,
    exif: bool = False,
    left_out: LeftOut | None = None,
) -> Iterator[tuple[Array, Sequence[PhotoFile]]]:
    """Decode photos in order, while the caller works on the batch before.

    Parameters
    ----------
    photos : sequence of PhotoFile
        The result of :func:`open_photos`, or a slice of it.
    preprocessing : Preprocessing or callable
        How each is prepared; a callable takes the path and ``exif`` and gives an array, as ``Engine.prepare`` does.
    batch : int
        Photos in each batch; the last may have fewer, and so may others where photos are left out.
    workers : int, optional
        Decoding threads; by default one per usable CPU, four at most.
    exif : bool
        Whether photos are turned upright as their EXIF orientation says. Unlike in :func:`load_photo` the default is
        ``False``, as in torchvision, since accuracy is measured on batches.
    left_out : LeftOut, optional
        Collects the photos that cannot be used, which are then missing from their batches; without it they are errors.

    Yields
    ------
    samples : ndarray
        uint8 (N, crop rows, crop columns, channels), or N arrays of the callable, stacked.
    entries : sequence of PhotoFile
        The N photos of the batch.

    Raises
    ------
    ImageError
        When the caller reaches the batch of a photo that cannot be used, unless ``left_out`` is given.
    ValueError
        Immediately, if ``batch`` or ``workers`` is below 1.
    """
    if batch < 1:
        raise ValueError(f"batch must be at least 1, got {batch}")
    if workers is None:
        workers = min(4, usable_cpus())
    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    prepare: Callable[..., Array] = (
        partial(load_photo, preprocessing=preprocessing) if isinstance(preprocessing, Preprocessing) else preprocessing
    )
    return _batches(photos, partial(prepare, exif=exif), batch, workers, left_out)


def _batches(
    photos: Sequence[PhotoFile],
    prepare: Callable[..., Array],
    batch: int,
    workers: int,
    left_out: LeftOut | None,
) -> Iterator[tuple[Array, Sequence[PhotoFile]]]:
    waiting: deque[Future[Array]] = deque()
    upcoming = iter(photos)
    with ThreadPoolExecutor(workers, thread_name_prefix="nybble-decode") as pool:
        try:
            for first in range(0, len(photos), batch):
                # At most this batch and the next one are being decoded, which bounds memory.
                for photo in islice(upcoming, max(0, 2 * batch - len(waiting))):
                    waiting.append(pool.submit(prepare, photo.path))
                samples: list[Array] = []
                entries: list[PhotoFile] = []
                for entry in photos[first : first + batch]:
                    try:
                        samples.append(waiting.popleft().result())
                    except ImageError as error:
                        if left_out is None:
                            raise
                        left_out.add(entry.file, error.message)
                    else:
                        entries.append(entry)
                if entries:
                    yield np.stack(samples), entries
        finally:
            # After an error, or if the caller stops early, only the decoding that already runs is waited for.
            for future in waiting:
                future.cancel()


def usable_cpus() -> int:
    """Processors that the process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
