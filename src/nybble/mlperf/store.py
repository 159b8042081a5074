"""Photos decoded, resized and cropped once, in a file that is mapped into memory.

A folder of the cache for each list of photos and preprocessing: ``samples`` holds uint8 (N, ...), ``checks`` a
number per photo, 0 until it is there, then its CRC-32 and a bit that is always set. A photo is written before its
check, so a killed run continues where it stopped. When a store is opened, photos that do not match their check are made
again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nybble.graph import Preprocessing
from nybble.graph.types import Array
from nybble.images import ImageError, LeftOut, PhotoFile, load_photo
from nybble.mlperf.errors import MlperfError
from nybble.progress import Progress, silent

_VERSION = 1
_THERE = 1 << 32
_CHUNK = 64


class Form(NamedTuple):
    """How photos are prepared.

    Attributes
    ----------
    shape : tuple of int
        Of a prepared photo, uint8.
    preprocessings : sequence of Preprocessing
        Those of the network, or of all members of an ensemble.
    prepare : callable
        Takes a path, and ``exif``; returns the prepared photo.
    """

    shape: tuple[int, ...]
    preprocessings: Sequence[Preprocessing]
    prepare: Callable[..., Array]


def form_of(preprocessing: Preprocessing) -> Form:
    """How photos are prepared for one network."""

    def prepare(path: Path, *, exif: bool) -> Array:
        return load_photo(path, preprocessing, exif=exif)

    return Form((*preprocessing.crop, len(preprocessing.mean)), (preprocessing,), prepare)


def open_store(
    photos: Sequence[PhotoFile],
    form: Form,
    cache: Path,
    progress: Progress = silent,
    workers: int | None = None,
    *,
    exif: bool = False,
    left_out: LeftOut | None = None,
) -> tuple[Path, Array]:
    """The prepared photos, made as far as they are missing or damaged.

    Parameters
    ----------
    photos : sequence of PhotoFile
    form : Form
    cache : Path
        The folder that holds the stores.
    progress : Progress
        Told how many photos are ready.
    workers : int, optional
        Threads; one per usable CPU by default.
    exif : bool
        Whether photos are turned upright as their EXIF orientation says.
    left_out : LeftOut, optional
        Collects the photos that cannot be decoded, whose samples are undefined; without it they are errors.

    Returns
    -------
    path : Path
        The file of samples.
    samples : ndarray
        uint8 (N, *form.shape), mapped for reading.

    Raises
    ------
    ImageError
        Naming the photo that cannot be decoded, unless ``left_out`` takes it; those before it stay prepared.
    MlperfError
        Where the cache cannot be written.
    """
    shape = (len(photos), *form.shape)
    folder = cache / _key(photos, form.preprocessings, exif)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder / "lock"):
            samples = _mapped(folder / "samples", shape, np.uint8)
            checks = _mapped(folder / "checks", shape[:1], np.uint64)

            def load(row: int) -> Array:
                return form.prepare(photos[row].path, exif=exif)

            for row, error in _fill(samples, checks, load, progress, workers or _usable_cpus(), left_out is not None):
                if left_out is not None:
                    left_out.add(photos[row].file, error.message)
            samples.flush()
            checks.flush()
    except OSError as error:
        raise MlperfError(
            f"{folder}: the prepared photos ({math.prod(shape) / 1e6:.0f} MB) cannot be kept: "
            f"{error.strerror or error}; NYBBLE_CACHE names another folder"
        ) from error
    return folder / "samples", map_samples(folder / "samples", shape)


def map_samples(path: Path, shape: tuple[int, ...]) -> Array:
    """A store's samples, mapped for reading."""
    return np.memmap(path, np.uint8, "r", shape=shape)


class Rows:
    """Some of a store's samples, renumbered, without a copy of all of them."""

    def __init__(self, samples: Array, rows: Sequence[int]) -> None:
        self._samples = samples
        self._rows = np.array(rows, np.int64)
        self.shape = (len(rows), *samples.shape[1:])

    def __getitem__(self, numbers: Sequence[int] | Array) -> Array:
        return self._samples[self._rows[numbers]]

    def __len__(self) -> int:
        return len(self._rows)


def _fill(
    samples: Array, checks: Array, load: Callable[[int], Array], progress: Progress, workers: int, go_on: bool
) -> Iterator[tuple[int, ImageError]]:
    """Make what is missing; yields the rows that cannot be decoded, or raises the first such error."""

    def prepare(row: int) -> None:
        if checks[row] != _check(samples[row]):
            checks[row] = 0
            samples[row] = load(row)
            checks[row] = _check(samples[row])

    with ThreadPoolExecutor(workers, thread_name_prefix="nybble-prepare") as pool:
        for first in range(0, len(samples), _CHUNK):
            rows = range(first, min(first + _CHUNK, len(samples)))
            # All of a chunk are waited for, so that an error leaves no thread behind that writes.
            outcomes = [pool.submit(prepare, row) for row in rows]
            errors = [(row, outcome.exception()) for row, outcome in zip(rows, outcomes, strict=True)]
            for row, error in errors:
                if error is not None and not (go_on and isinstance(error, ImageError)):
                    raise error
                if isinstance(error, ImageError):
                    yield row, error
            progress("preparing photos", rows.stop, len(samples))


def _check(sample: Array) -> int:
    return _THERE | zlib.crc32(sample.data)


def _mapped(path: Path, shape: tuple[int, ...], dtype: type) -> np.memmap[tuple[int, ...], np.dtype[np.generic]]:
    """A file of that size, zeros where it was shorter. Space is taken now: a full disk is an error, not a signal."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    with path.open("ab") as file:
        if os.fstat(file.fileno()).st_size != size:
            file.truncate(size)
        os.posix_fallocate(file.fileno(), 0, size)
    return np.memmap(path, dtype, "r+", shape=shape)


def _key(photos: Sequence[PhotoFile], preprocessings: Sequence[Preprocessing], exif: bool) -> str:
    """Names the folder: the photos' names, sizes and times, how they are prepared, and by which decoder."""
    from PIL import __version__ as pillow

    settings = [
        {name: str(value) for name, value in asdict(preprocessing).items() if not name.startswith("_")}
        for preprocessing in preprocessings
    ]
    if exif:
        settings[0]["exif"] = "upright"
    digest = hashlib.sha256(json.dumps([_VERSION, pillow, *settings], sort_keys=True).encode())
    for photo in photos:
        about = photo.path.stat()
        digest.update(os.fsencode(os.path.realpath(photo.path)) + f"\0{about.st_size}\0{about.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:24]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time prepares a folder; the lock ends with the process."""
    with path.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _usable_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
