"""A job: its input, its results, and its shards."""

from __future__ import annotations

import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from nybble.batch.errors import BatchError
from nybble.batch.inputs import Input, Photo
from nybble.batch.network import Network
from nybble.batch.rows import Format, Row, format_named
from nybble.engine.scores import ranked, softmax
from nybble.graph.types import Array
from nybble.images import ImageError

#: The file that describes the job of a folder of results.
JOB = "job.json"
_SCHEMA = "nybble-batch/1"
#: Files that were being written when a job was killed.
_UNFINISHED = ".*.part"


@dataclass(frozen=True)
class Settings:
    """The settings that the rows of a job depend on, besides its input and its model.

    Attributes
    ----------
    format : str
        ``parquet``, ``jsonl`` or ``csv``.
    shard : int
        Photos of a file.
    top : int
        Classes of a photo.
    embeddings : bool
        Whether rows have the input of the last layer.
    exif : bool
        Whether photos are turned upright.
    """

    format: str = "parquet"
    shard: int = 10_000
    top: int = 5
    embeddings: bool = False
    exif: bool = True


@dataclass(frozen=True)
class Part:
    """A shard: rows ``first`` to ``last - 1`` of the input, and their file."""

    first: int
    last: int
    path: Path


class Job:
    """The shards of an input, a model and settings.

    A shard depends on its own photos only, and its file appears when it is complete. So a job that is killed and
    resumed, in any order, writes the same bytes as an uninterrupted one.

    Parameters
    ----------
    photos : Input
    network : Network
    settings : Settings
    out : Path
        The folder of results.
    """

    def __init__(self, photos: Input, network: Network, settings: Settings, out: Path) -> None:
        self._photos, self._network, self._settings = photos, network, settings
        self._out = out
        self._format: Format = format_named(
            settings.format, embeddings=settings.embeddings, answers=not network.classifies
        )
        size = settings.shard
        self.parts = [
            Part(first, min(first + size, len(photos)), out / f"part-{first // size:05}{self._format.suffix}")
            for first in range(0, len(photos), size)
        ]

    def open(self, *, resume: bool) -> None:
        """Begin in an empty folder of results, or go on in one of the same job. The caller has locked it.

        Raises
        ------
        BatchError
            If the folder has files without ``resume``, or belongs to another job; the text says what differs.
        """
        description = self.description()
        try:
            before = self._out / JOB
            if before.exists():
                self._check_same(json.loads(before.read_text(encoding="utf-8-sig")), description, resume)
            elif any(not entry.match(_UNFINISHED) for entry in self._out.iterdir()):
                raise BatchError(f"{self._out}: is not empty, and holds no job; name another folder")
            else:
                write_durably(before, (json.dumps(description, indent=2) + "\n").encode())
            for left in self._out.glob(_UNFINISHED):
                left.unlink()
        except (OSError, ValueError, RecursionError) as error:
            if isinstance(error, BatchError):
                raise
            raise BatchError(f"{self._out}: {getattr(error, 'strerror', None) or error}") from error

    def errors(self, part: Part) -> int | None:
        """How many rows of a shard have an error; None where it is not done yet.

        Raises
        ------
        BatchError
            Where its file is damaged.
        """
        if not part.path.exists():
            return None
        try:
            return self._format.errors(part.path)
        except Exception as error:  # Damaged files cause many kinds of exceptions in the readers.
            raise BatchError(f"{part.path}: is damaged: {error}; remove it and resume") from error

    def run(self, part: Part, pool: ThreadPoolExecutor, batch: int, told: Callable[[Row], None]) -> None:
        """Do one shard and write its file; parameters are those of :meth:`encoded`."""
        write_durably(part.path, self.encoded(part, pool, batch, told))

    def encoded(self, part: Part, pool: ThreadPoolExecutor, batch: int, told: Callable[[Row], None]) -> bytes:
        """The content of the file of a shard.

        Parameters
        ----------
        part : Part
        pool : ThreadPoolExecutor
            Decodes photos.
        batch : int
            Photos that run together; rows do not depend on it.
        told : callable
            Called with each row; what it raises ends the shard.
        """
        rows: list[Row] = []
        for row in self._rows(part, pool, batch):
            rows.append(row)
            told(row)
        return self._format.encode(rows, self._settings.top, self._settings.embeddings)

    def _rows(self, part: Part, pool: ThreadPoolExecutor, batch: int) -> Iterator[Row]:
        numbers = range(part.first, part.last)
        loaded = self._loaded(part, pool, batch)
        numbered = zip(numbers, loaded, strict=True)
        if not self._network.classifies:
            yield from self._answered(numbered)
            return
        while some := list(islice(numbered, batch)):
            good = [sample for _, (_, sample) in some if not isinstance(sample, str)]
            answers = iter(self._answers(good)) if good else iter(())
            for index, (photo, sample) in some:
                if isinstance(sample, str):
                    yield Row(index, photo.name, error=sample)
                else:
                    labels, scores, embedding = next(answers)
                    names = [self._network.class_names[label] for label in labels]
                    yield Row(index, photo.name, None, labels, names, scores, embedding)

    def _answered(self, numbered: Iterable[tuple[int, tuple[Photo, Any]]]) -> Iterator[Row]:
        for index, (photo, sample) in numbered:
            if isinstance(sample, str):
                yield Row(index, photo.name, error=sample)
            else:
                yield Row(index, photo.name, answer=self._network.answer(sample))

    def _answers(self, samples: Sequence[Array]) -> list[tuple[list[int], list[float], list[float] | None]]:
        found = self._network.run(np.stack(samples))
        probabilities = softmax(found.logits)
        best = ranked(probabilities, self._settings.top)
        scores = np.take_along_axis(probabilities, best, axis=1)
        embeddings = [None] * len(best) if found.embeddings is None else found.embeddings.tolist()
        return list(zip(best.tolist(), scores.tolist(), embeddings, strict=True))

    def _loaded(self, part: Part, pool: ThreadPoolExecutor, batch: int) -> Iterator[tuple[Photo, Any]]:
        """Each photo, and its samples or the reason for their absence. Few are decoded ahead, to bound memory."""
        upcoming = self._photos.photos(part.first, part.last)
        waiting: deque[tuple[Photo, Future[Any]]] = deque()
        try:
            while True:
                for photo in islice(upcoming, 2 * batch - len(waiting)):
                    waiting.append((photo, pool.submit(self._load, photo)))
                if not waiting:
                    return
                photo, future = waiting.popleft()
                yield photo, future.result()
        finally:
            for _, future in waiting:
                future.cancel()

    def _load(self, photo: Photo) -> Any:
        """The samples, or the text of why there are none."""
        if photo.source is None:
            return photo.reason
        try:
            return self._network.prepare(photo.source, exif=self._settings.exif)
        except ImageError as error:
            return error.message

    def description(self) -> dict[str, Any]:
        """The content of ``job.json``: the settings, and fingerprints of the input and the model."""
        return {
            "schema": _SCHEMA,
            "photos": len(self._photos),
            "parts": len(self.parts),
            "input": self._photos.fingerprint(),
            "model": hashlib.sha256(self._network.digest.encode()).hexdigest(),
            "settings": asdict(self._settings),
        }

    def _check_same(self, before: Any, now: dict[str, Any], resume: bool) -> None:
        if not isinstance(before, dict) or before.get("schema") != _SCHEMA:
            raise BatchError(f"{self._out / JOB}: is not of a job of this version; name another folder")
        if not resume:
            raise BatchError(f"{self._out}: holds a job; --resume goes on with it, or name another folder")
        for name, what in (("settings", "has other settings"), ("model", "is of another model")):
            if before.get(name) != now[name]:
                raise BatchError(f"{self._out}: the job there {what}; name another folder")
        if before != now:
            raise BatchError(f"{self._out}: the input has changed since that job was begun; name another folder")


def write_durably(path: Path, content: bytes) -> None:
    """Write a file under a temporary name, wait until it is on the disk, and rename it.

    Raises
    ------
    BatchError
        Where it cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        try:
            with part.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except BaseException:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            raise
        # The rename, too.
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise BatchError(f"{path}: cannot be written: {error.strerror or error}") from error
