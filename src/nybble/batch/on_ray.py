"""Runs a job on a Ray cluster, with one Ray task per shard. Ray places tasks, and repeats those of lost workers.

Workers read the input and the model by the same paths as the driver, and return the content of a shard's file. Only the
driver writes. So results, resuming and refusals are those of a job on one machine.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from nybble.batch.errors import BatchError
from nybble.batch.inputs import open_input
from nybble.batch.job import Job, Part, Settings, write_durably
from nybble.batch.network import Network
from nybble.batch.rows import Row
from nybble.batch.run import Outcome, Tally, run_by
from nybble.progress import Progress, silent

#: How often Ray repeats the task of a worker that was lost.
_RETRIES = 5
#: Tasks that are submitted for each that can run at a time.
_AHEAD = 2
_LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Work:
    """The work of a worker: absolute paths, which mean the same on every node, and options.

    Attributes
    ----------
    model, photos : Path
    column : str or None
        As for :func:`nybble.batch.open_input`.
    settings : Settings
    threads, batch : int
        Processors of a task, and photos that run together. Rows do not depend on them.
    """

    model: Path
    photos: Path
    column: str | None
    settings: Settings
    threads: int
    batch: int


def check_installed() -> None:
    """Raise :class:`BatchError` if Ray is not installed."""
    if find_spec("ray") is None:
        raise BatchError("--ray needs Ray, which is not installed: pip install 'nybble[ray]'")


def run_on_ray(
    job: Job,
    work: Work,
    out: Path,
    address: str,
    *,
    resume: bool = False,
    retry_failed: bool = False,
    max_failure_rate: float | None = None,
    progress: Progress = silent,
) -> Outcome:
    """Do the shards of a job that are not done, on a Ray cluster.

    Parameters
    ----------
    job : Job
    work : Work
        The same job, for workers.
    out : Path
        Its folder of results; only this process writes there.
    address : str
        Of the cluster, as for ``ray.init``; ``local`` starts one on this machine, bound to loopback.
    resume, retry_failed, max_failure_rate, progress
        As for :func:`nybble.batch.run`.

    Raises
    ------
    BatchError
        As :func:`nybble.batch.run`; also if there is no such cluster, a worker finds another input or model, or workers
        of a shard are lost too often.
    """
    check_installed()

    def each(parts: Sequence[Part], tally: Tally) -> None:
        if not parts:
            return
        with _connected(address):
            for part, content, errors in _results(work, job.description(), parts):
                write_durably(part.path, content)
                tally.count(part.last - part.first, errors)

    return run_by(each, job, out, resume, retry_failed, max_failure_rate, progress)


def do_shard(work: Work, description: dict[str, Any], part: Part) -> tuple[bytes, int]:
    """The content of a shard's file, and how many of its rows have an error; in a worker.

    Raises
    ------
    BatchError
        Where input, model or settings are not those that the driver has described.
    """
    job, found = _opened(work)
    for name, what in (("input", work.photos), ("photos", work.photos), ("model", work.model)):
        if found[name] != description[name]:
            raise BatchError(
                f"{what}: on node {os.uname().nodename} it is not that of the driver, or has changed since the job was "
                "begun; every node must see the same files, with the same times of change"
            )
    errors = 0

    def told(row: Row) -> None:
        nonlocal errors
        errors += row.error is not None

    with ThreadPoolExecutor(work.threads) as pool:
        return job.encoded(part, pool, work.batch, told), errors


@lru_cache(maxsize=1)
def _opened(work: Work) -> tuple[Job, dict[str, Any]]:
    """The job in a worker, which Ray keeps for further tasks."""
    network = Network(work.model, work.threads, embeddings=work.settings.embeddings)
    job = Job(open_input(work.photos, work.column), network, work.settings, Path())
    return job, job.description()


def _results(work: Work, description: dict[str, Any], parts: Sequence[Part]) -> Iterator[tuple[Part, bytes, int]]:
    """Shards in the order in which they are done."""
    import ray

    largest = max(node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"])
    if largest < work.threads:
        raise BatchError(
            f"--threads {work.threads}: no node of the cluster has so many processors, the most is {largest:g}"
        )
    task = ray.remote(num_cpus=work.threads, max_retries=_RETRIES)(do_shard)
    upcoming = iter(parts)
    running: dict[Any, Part] = {}
    try:
        while True:
            # Nodes come and go.
            slots = int(ray.cluster_resources().get("CPU", 1)) // work.threads
            while len(running) < _AHEAD * max(slots, 1) and (part := next(upcoming, None)) is not None:
                running[task.remote(work, description, part)] = part
            if not running:
                return
            done, _ = ray.wait(list(running))
            part = running.pop(done[0])
            try:
                content, errors = ray.get(done[0])
            except ray.exceptions.RayTaskError as error:
                raise _cause(error) from None
            except ray.exceptions.RayError as error:
                raise BatchError(
                    f"{part.path.name}: its worker was lost {_RETRIES + 1} times ({type(error).__name__}); shards that "
                    "are done are kept; look at Ray's logs"
                ) from error
            yield part, content, errors
    finally:
        for left in running:
            ray.cancel(left)


def _cause(error: Any) -> BaseException:
    """What the worker raised, without Ray's wrapping."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, BaseException) else error


@contextmanager
def _connected(address: str) -> Iterator[None]:
    """A connection to a cluster, which ends with this context; quiet, and without reports of usage to Ray's makers."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    options: dict[str, Any] = {"logging_level": "error", "log_to_driver": False}
    if address == "local":
        options |= {"include_dashboard": False, "_node_ip_address": _LOOPBACK}
    try:
        ray.init(address=address, **options)
    except (ConnectionError, ValueError, RuntimeError) as error:
        first = str(error).strip().splitlines()[0]
        raise BatchError(f"--ray {address}: there is no such cluster: {first}") from error
    try:
        yield
    finally:
        ray.shutdown()
