"""Batches of decoded photos, decoded ahead in threads."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

import numpy as np

from nybble.graph import Preprocessing
from nybble.graph.types import Array
from nybble.images.folder import LabelledPhoto
from nybble.images.photo import load_photo


def batches(
    photos: Sequence[LabelledPhoto], preprocessing: Preprocessing, *, batch: int = 8, workers: int | None = None
) -> Iterator[tuple[Array, Sequence[LabelledPhoto]]]:
    """Decode photos in order, while the caller works on the batch before.

    Parameters
    ----------
    photos : sequence of LabelledPhoto
        A :class:`LabelledFolder` or a slice of one.
    preprocessing : Preprocessing
    batch : int
        Photos in each batch; the last may have fewer.
    workers : int, optional
        Decoding threads; by default one a usable CPU, four at most.

    Yields
    ------
    samples : ndarray
        uint8 (N, crop rows, crop columns, channels).
    entries : sequence of LabelledPhoto
        The N photos of it.

    Raises
    ------
    ImageError
        When the batch of a photo that cannot be used is asked for.
    ValueError
        At once, for a batch or a number of workers below 1.
    """
    if batch < 1:
        raise ValueError(f"batch must be at least 1, got {batch}")
    if workers is None:
        workers = min(4, _usable_cpus())
    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    return _batches(photos, preprocessing, batch, workers)


def _batches(
    photos: Sequence[LabelledPhoto], preprocessing: Preprocessing, batch: int, workers: int
) -> Iterator[tuple[Array, Sequence[LabelledPhoto]]]:
    waiting: deque[Future[Array]] = deque()
    upcoming = iter(photos)
    with ThreadPoolExecutor(workers, thread_name_prefix="nybble-decode") as pool:
        try:
            for first in range(0, len(photos), batch):
                # This batch and the next one are under way at most, which bounds memory.
                for photo in islice(upcoming, max(0, 2 * batch - len(waiting))):
                    waiting.append(pool.submit(load_photo, photo.path, preprocessing))
                entries = photos[first : first + batch]
                yield np.stack([waiting.popleft().result() for _ in entries]), entries
        finally:
            # An error or a caller that stops early leaves nothing to wait for but what already runs.
            for future in waiting:
                future.cancel()


def _usable_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
