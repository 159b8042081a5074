"""The request of a run, its photos, and the job that its processes share."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nybble.cache import cache_folder
from nybble.images import LeftOut, PhotoFile, PhotoFiles, network_classes
from nybble.mlperf import conf
from nybble.mlperf.conf import Settings
from nybble.mlperf.job import ESTIMATE, Job
from nybble.mlperf.labels import find_photos
from nybble.mlperf.store import open_store
from nybble.mlperf.subject import Subject
from nybble.progress import Progress


@dataclass(frozen=True)
class Request:
    """A request, as the command line gives it.

    Attributes
    ----------
    model : Path
    name : str
        What the model is called.
    images, labels : Path
        As for :func:`nybble.mlperf.labels.find_photos`.
    limit : int or None
        Only the first photos.
    exif : bool
        Turn photos upright.
    scenario, mode : str
        Of ``SCENARIOS`` and ``MODES``.
    conf, user_conf : Path or None
    threads, batch : int or None
    device : str
        As for ``nybble.Engine``.
    find_peak : bool
        Search the highest rate of Server, even if a file sets it.
    submitter, system : str
        Names of folders.
    """

    model: Path
    name: str
    images: Path
    labels: Path | None = None
    limit: int | None = None
    scenario: str = "Offline"
    mode: str = "performance"
    conf: Path | None = None
    user_conf: Path | None = None
    threads: int | None = None
    batch: int | None = None
    find_peak: bool = False
    submitter: str = "nybble"
    system: str = ""
    exif: bool = False
    device: str = "cpu"


def stated_settings(request: Request) -> Settings:
    """What the files of a request say, the user's over the other."""
    stated: Settings = {}
    for path, user in ((request.conf, False), (request.user_conf, True)):
        if path is not None:
            stated.update(conf.read(path, request.scenario, user=user))
    return stated


def photos_of(request: Request, subject: Subject) -> PhotoFiles:
    """The photos of a request. Raises :class:`MlperfError` or :class:`ImageError`."""
    need = request.mode != "performance"
    return find_photos(request.images, request.labels, network_classes(subject.graphs[0]), request.limit, need=need)


def about_run(request: Request, subject: Subject, photos: Sequence[PhotoFile]) -> dict[str, Any]:
    """``run.json``, as far as it is known beforehand."""
    import nybble

    paths = {name: os.path.realpath(value) for name, value in asdict(request).items() if isinstance(value, Path)}
    rest = {name: value for name, value in asdict(request).items() if not isinstance(value, Path)}
    return {
        "nybble": nybble.__version__,
        "model_digest": subject.digest,
        "photos": len(photos),
        "left_out": [],
        "exif": request.exif,
        "photos_digest": _digest(photos, request.exif),
        "request": {**rest, **paths},
    }


def prepare_job(
    request: Request,
    subject: Subject,
    photos: Sequence[PhotoFile],
    settings: Settings,
    progress: Progress,
    left_out: LeftOut,
) -> Job:
    """The photos prepared, and what the runs of a request have in common.

    ``left_out`` gets the photos that cannot be decoded, which LoadGen is not told of.
    """
    path, samples = open_store(
        photos,
        subject.form,
        cache_folder() / "mlperf",
        progress,
        exif=request.exif,
        left_out=left_out,
    )
    gone = {photo.file for photo in left_out}
    rows = tuple(row for row, photo in enumerate(photos) if photo.file not in gone)
    left_out.check(len(rows))
    return Job(
        task=ESTIMATE,
        model=str(request.model),
        samples=str(path),
        shape=samples.shape,
        rows=None if len(rows) == len(photos) else rows,
        scenario=request.scenario,
        batch=_batch(request, settings),
        threads=request.threads,
        device=request.device,
        performance_count=int(settings["performance_sample_count_override"]),
        settings=settings,
    )


def _batch(request: Request, settings: Settings) -> int:
    """Photos in a batch at most: no more than a query of the scenario has."""
    wanted = request.batch or 8
    if request.scenario == "SingleStream":
        return 1
    if request.scenario == "MultiStream":
        return min(wanted, int(settings["multi_stream_samples_per_query"]))
    return wanted


def _digest(photos: Sequence[PhotoFile], exif: bool) -> str:
    import hashlib

    digest = hashlib.sha256()
    for photo in photos:
        digest.update(f"{photo.file}\0{photo.label}\n".encode())
    if exif:
        digest.update(b"upright")
    return digest.hexdigest()
