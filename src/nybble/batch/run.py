"""Run a job: the shards that are missing, or those with errors again."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from nybble.batch.errors import BatchError
from nybble.batch.job import Job, Part
from nybble.batch.rows import Row
from nybble.progress import Progress, silent

#: Photos after which the share of failures is checked while a job runs.
_ENOUGH = 100


class Outcome(NamedTuple):
    """Photos of a job, those with an error, and those that were done in this run."""

    photos: int
    errors: int
    done: int


def run(
    job: Job,
    out: Path,
    *,
    resume: bool = False,
    retry_failed: bool = False,
    max_failure_rate: float | None = None,
    batch: int = 8,
    decoders: int | None = None,
    progress: Progress = silent,
) -> Outcome:
    """Do the shards of a job that are not done.

    Parameters
    ----------
    job : Job
    out : Path
        Its folder of results, which is made where there is none, and locked meanwhile.
    resume : bool
        Whether the folder may hold a part of this job.
    retry_failed : bool
        Whether shards with errors are done again; their files are replaced once they are complete.
    max_failure_rate : float, optional
        The largest share of photos with an error, of those done in this run.
    batch : int
        Photos that run together.
    decoders : int, optional
        Threads that decode; by default one for each processor.
    progress : Progress

    Raises
    ------
    BatchError
        Where the folder is that of another job, in use, or cannot be written; and where too many photos fail.
    """
    with ThreadPoolExecutor(decoders or len(os.sched_getaffinity(0))) as pool:

        def each(parts: Sequence[Part], tally: Tally) -> None:
            for part in parts:
                job.run(part, pool, batch, tally.add)

        return run_by(each, job, out, resume, retry_failed, max_failure_rate, progress)


def run_by(
    each: Callable[[Sequence[Part], Tally], None],
    job: Job,
    out: Path,
    resume: bool,
    retry_failed: bool,
    max_failure_rate: float | None,
    progress: Progress,
) -> Outcome:
    """Do the shards of a job that are not done by a function that writes their files and counts their photos.

    The other parameters, and errors, are those of :func:`run`.
    """
    with _locked(out):
        job.open(resume=resume or retry_failed)
        before = {part: job.errors(part) for part in job.parts}
        waiting = [part for part, errors in before.items() if errors is None or (retry_failed and errors)]
        tally = Tally(sum(part.last - part.first for part in waiting), max_failure_rate, progress)
        each(waiting, tally)
        tally.check()
    kept = sum(errors or 0 for part, errors in before.items() if part not in set(waiting))
    return Outcome(sum(map(_size, job.parts)), kept + tally.errors, tally.done)


class Tally:
    """Photos done and failed in this run."""

    def __init__(self, total: int, most: float | None, progress: Progress) -> None:
        self.done = self.errors = 0
        self._total, self._most, self._progress = total, most, progress
        progress("photos", 0, total)

    def add(self, row: Row) -> None:
        """Count a photo."""
        self.count(1, int(row.error is not None))

    def count(self, photos: int, errors: int) -> None:
        """Count photos, of which some have errors."""
        self.done += photos
        self.errors += errors
        self._progress("photos", self.done, self._total)
        if errors and self.done >= _ENOUGH:
            self.check()

    def check(self) -> None:
        """Raise where too many photos have failed."""
        if self._most is not None and self.errors > self._most * self.done:
            raise BatchError(
                f"{self.errors} of {self.done} photos cannot be used, more than --max-failure-rate {self._most:g} "
                "allows; shards that are done are kept"
            )


def _size(part: Part) -> int:
    return part.last - part.first


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Keep other processes out of a folder; the system ends the lock with the process, however that ends."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(out, os.O_RDONLY)
    except OSError as error:
        raise BatchError(f"{out}: {error.strerror or error}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise BatchError(f"{out}: another process is at work there") from error
        yield
    finally:
        os.close(descriptor)
