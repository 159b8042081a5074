"""Measures an ensemble and its members."""

from __future__ import annotations

import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from nybble import schemas
from nybble.bench import machine
from nybble.bench.bench import Settings, photos_per_turn, race
from nybble.bench.errors import BenchError
from nybble.bench.photos import Photos
from nybble.bench.race import Contestant, Worker
from nybble.bench.result import ratio_of, run_records
from nybble.disturbance import disturbance, usage, warning
from nybble.engine.ensemble import Ensemble, load_ensemble
from nybble.graph.macs import four_bit_share
from nybble.progress import Progress, silent


def open_ensemble(path: Path) -> Ensemble:
    """The ensemble of a file. Raises :class:`BenchError` if its members use crops of different sizes."""
    ensemble = load_ensemble(path, 1, tuned=True, device="cpu")
    if ensemble.crop_shape is None:
        ensemble.close()
        raise BenchError(f"{path}: its members use crops of different sizes; measure each member separately")
    return ensemble


def bench_ensemble(
    path: Path, ensemble: Ensemble, photos: Photos, settings: Settings, progress: Progress = silent
) -> dict[str, Any]:
    """Run an ensemble and each of its members, interleaved, as :func:`nybble.bench.bench` runs peers.

    Parameters
    ----------
    path : Path
        The file of the ensemble.
    ensemble : Ensemble
        What :func:`open_ensemble` gives.
    photos : Photos
    settings : Settings
        Its threads, batches, seconds, isa and device.

    Returns
    -------
    dict
        As that of :func:`nybble.bench.bench`; its ``ratios`` compare the ensemble with each member. The bits of a
        member are 4 if any of its layers has 4-bit inputs and weights; those of the ensemble are its members' fewest.
    """
    used, begun = usage(), time.perf_counter()
    about = machine.describe()
    bits = [4 if four_bit_share(member.engine.graph) else 8 for member in ensemble.members]

    def contestant(name: str, width: int, model: Path) -> Contestant:
        return Contestant(name, "nybble", width, model.absolute(), isa=settings.isa, device=settings.device)

    contestants = [contestant(f"nybble {path.stem}", min(bits), path)]
    for place, (member, folder) in enumerate(zip(ensemble.members, ensemble.folders, strict=True)):
        contestants.append(contestant(f"nybble {place + 1}: {member.name}", bits[place], folder))
    with TemporaryDirectory(prefix="nybble-bench-") as folder_name:
        samples = Path(folder_name) / "photos.u8"
        photos.samples.tofile(samples)

        def start(contestant: Contestant, threads: int) -> Worker:
            return Worker(contestant, samples, photos.samples.shape[1:], ensemble.preprocessings[0], threads)

        runs, top1, loaded, rounds = race(contestants, photos, start, settings, progress)
    about["load_average_after"] = machine.describe()["load_average"]
    about["disturbance"] = disturbance(used, usage())
    return {
        "schema": schemas.BENCH,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": about,
        "network": path.name,
        "photos": photos.source,
        "photo_count": len(photos),
        "calibration": None,
        "left_out": photos.left_out.to_json(),
        "exif": photos.exif,
        "settings": {
            **asdict(settings),
            "against": [],
            "isa_of_peers": {},
            "bits": sorted(set(bits)),
            "dense": False,
            "fp32": False,
        },
        "looks_up_tables": False,
        "peers_left_out": {},
        "rounds": rounds,
        "photos_per_turn": photos_per_turn(settings, len(photos)),
        "contestants": loaded,
        "int8_choices": {},
        "scaling": None,
        "runs": run_records(contestants, runs, settings.threads, top1),
        "ratios": {
            f"ensemble_vs_{member.name.removeprefix('nybble ')}": ratio_of(runs, contestants[:1], [member])
            for member in contestants[1:]
        },
        "warning": warning(about["disturbance"]),
        "seconds": round(time.perf_counter() - begun, 1),
    }
