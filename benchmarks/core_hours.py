"""Core-hours, and their price, for many photos, from the processor time that ``nybble batch`` takes.

``python benchmarks/core_hours.py MODEL... --images DIR [--price P] [--photos N] [--json FILE]`` measures.
``python benchmarks/core_hours.py --measured FILE [--price P] [--photos N]`` computes from what ``--json`` wrote.

Processor time (user and system) is that of the whole process: reading, decoding, running the network, writing. A job of
a single photo is measured as well and subtracted, so that the start of the process does not count. A core-hour is an
hour of one processor as Linux counts them.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from nybble.bench.machine import describe
from nybble.files import JSON, write_text
from nybble.images import open_photos

_HOUR = 3600.0
show = Console(soft_wrap=True, highlight=False, markup=False).print


def core_hours(seconds: float, photos: float) -> float:
    """Core-hours for so many photos, each of which takes so many seconds of one processor."""
    return seconds * photos / _HOUR


def processor_seconds(model: str, source: Path, threads: int) -> float:
    """Processor time of one job, user and system."""
    with tempfile.TemporaryDirectory(prefix="nybble-core-hours-") as out:
        words = ["batch", model, str(source), "--out", f"{out}/out", "--threads", str(threads), "--format", "jsonl"]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([sys.executable, "-m", "nybble", *words], capture_output=True, text=True, check=False)  # noqa: S603
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"nybble batch {model}: {done.stderr.strip()}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(models: Sequence[str], images: Path, limit: int, threads: int, rounds: int) -> dict[str, Any]:
    """Seconds of one processor for a photo, for each model: the median of rounds in which all run in turn."""
    paths = [photo.path.absolute() for photo in open_photos(images)][:limit]
    if len(paths) < 2:
        raise SystemExit(f"{images}: two photos at least are needed")
    found: dict[str, list[float]] = {model: [] for model in models}
    with tempfile.TemporaryDirectory(prefix="nybble-core-hours-") as folder:
        lists = [Path(folder) / name for name in ("one.txt", "all.txt")]
        for file, some in zip(lists, (paths[:1], paths), strict=True):
            file.write_text("".join(f"{path}\n" for path in some), encoding="utf-8")
        for _ in range(rounds):
            for model, taken in found.items():
                one, many = (processor_seconds(model, file, threads) for file in lists)
                taken.append((many - one) / (len(paths) - 1))
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe(),
        "photos": len(paths),
        "bytes": sum(path.stat().st_size for path in paths) / len(paths),
        "threads": threads,
        "seconds": {model: sorted(taken)[len(taken) // 2] for model, taken in found.items()},
        "rounds": found,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", metavar="MODEL")
    parser.add_argument("--images", type=Path, metavar="PHOTOS")
    parser.add_argument("--limit", type=int, default=200, help="photos to measure with (200)")
    parser.add_argument("--threads", type=int, default=1, help="of the engine (1)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--measured", type=Path, metavar="FILE", help="what --json wrote before")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep what is measured")
    parser.add_argument("--photos", type=float, default=1e9, help="photos to compute for (1e9)")
    parser.add_argument("--price", type=float, default=1.0, help="of a core-hour, in any currency (1)")
    given = parser.parse_args(arguments)
    if given.measured is not None:
        found = json.loads(given.measured.read_text(encoding="utf-8-sig"))
    elif given.models and given.images is not None:
        found = measure(given.models, given.images, given.limit, given.threads, given.rounds)
    else:
        parser.error("give MODEL... and --images, or --measured")
    if given.json is not None:
        write_text(given.json, json.dumps(found, indent=1) + "\n", JSON)
    show(f"{found['machine']['cpu']}, {found['photos']} photos of {found['bytes'] / 1e3:.0f} kB, {found['date']}")
    show("| model | ms of a core per photo | core-hours | price |")
    show("|---|---|---|---|")
    for model, seconds in found["seconds"].items():
        hours = core_hours(seconds, given.photos)
        show(f"| {model} | {1e3 * seconds:.2f} | {hours:,.0f} | {hours * given.price:,.0f} |")


if __name__ == "__main__":
    main()
