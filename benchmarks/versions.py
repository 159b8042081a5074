"""Two versions of nybble side by side: speed, load time and memory, in fresh processes that alternate.

`versions.py BEFORE AFTER --model DIR [--bits 4 8] [--images DIR] [--pairs 20]`: BEFORE and AFTER are the Python
interpreters of two environments, with one version each. Each pair runs both versions, each in a process of its own; the
order alternates. A process loads the model and runs batches of 1 and of 8 photos. The ratio AFTER / BEFORE is
printed: the median over the pairs and its 95 % interval, by order statistics. Below 1 the newer version is faster.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np

from nybble.disturbance import Watch, warning
from nybble.graph import Preprocessing, read_graph, write_graph
from nybble.graph.convert import to_bits
from nybble.images import load_photo
from nybble.turns import take_turns

#: What one process does. It may use only what both versions have.
WORKER = """
import json, resource, sys, time
started = time.perf_counter()
import nybble
import numpy as np
model, photos, threads, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
photos = np.load(photos)
imported = time.perf_counter()
engine = nybble.load(model, threads=threads, tuned=False)
loaded = time.perf_counter()
result = {"import and load": loaded - started, "load": loaded - imported}
for batch in (1, len(photos)):
    engine(photos[:batch])
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end:
        before = time.perf_counter()
        engine(photos[:batch])
        times.append(time.perf_counter() - before)
    result[f"batch {batch}"] = sorted(times)[len(times) // 2] / batch
result["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps(result))
"""
BATCH = 8


def main() -> None:
    """Print one line per figure and, with ``--output``, write all pairs as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, help="Python interpreter of the older version")
    parser.add_argument("after", type=Path, help="Python interpreter of the newer version")
    parser.add_argument("--model", type=Path, action="append", required=True, help="model directory; may be repeated")
    parser.add_argument("--bits", type=int, nargs="+", choices=(4, 8), default=[4, 8])
    parser.add_argument("--images", type=Path, help="folder of photos; without it pixels are random")
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=1.0, help="per batch size and process")
    parser.add_argument("--output", type=Path, help="JSON file for all pairs")
    arguments = parser.parse_args()
    record = {}
    with tempfile.TemporaryDirectory() as folder:
        for model in arguments.model:
            graph = read_graph(model)
            photos = Path(folder) / "photos.npy"
            np.save(photos, pixels(graph.preprocessing or Preprocessing(), arguments.images))
            for bits in arguments.bits:
                path = Path(folder) / f"{model.resolve().name}-{bits}"
                write_graph(graph if bits == 4 else to_bits(graph, 8), path)
                watch = Watch()
                pairs = measured(arguments, path, photos)
                label = f"{model.resolve().name}, {bits} bits"
                record[label] = pairs
                sys.stdout.write(f"{label}, {arguments.threads} threads, {len(pairs)} pairs\n")
                for figure in pairs[0]["before"]:
                    sys.stdout.write(f"  {line(figure, pairs)}\n")
                if text := warning(watch.taken()):
                    sys.stdout.write(f"  {text}\n")
                sys.stdout.flush()
    if arguments.output is not None:
        arguments.output.write_text(json.dumps(record, indent=1) + "\n")


def pixels(preprocessing: Preprocessing, folder: Path | None) -> np.ndarray:
    """(8, rows, columns, 3) uint8: the first photos of a folder, by name, or random ones."""
    if folder is None:
        return np.random.default_rng(0).integers(0, 256, (BATCH, *preprocessing.crop, 3), np.uint8)
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))[:BATCH]
    if len(files) < BATCH:
        raise SystemExit(f"{folder}: {BATCH} photos are required, found {len(files)}")
    return np.stack([load_photo(path, preprocessing) for path in files])


def measured(arguments: argparse.Namespace, model: Path, photos: Path) -> list[dict[str, dict[str, float]]]:
    """Figures of both versions for each pair."""
    given = [str(model), str(photos), str(arguments.threads), str(arguments.seconds)]
    # As in an installed package, modules are compiled once; the first pair does it.
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(photos.parent / "compiled")}

    def figures(python: Path, _: int) -> dict[str, float]:
        command = [str(python), "-c", WORKER, *given]
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)  # noqa: S603
        found: dict[str, float] = json.loads(done.stdout)
        return found

    versions = [partial(figures, python) for python in (arguments.before, arguments.after)]
    before, after = take_turns(versions, range(arguments.pairs + 1), rotate=True)
    # The first pair fills the page cache and compiles the modules.
    return [{"before": old, "after": new} for old, new in zip(before[1:], after[1:], strict=True)]


def line(figure: str, pairs: list[dict[str, dict[str, float]]]) -> str:
    """The medians of both versions, and the median ratio with its interval."""
    before, after = ([pair[name][figure] for pair in pairs] for name in ("before", "after"))
    ratios = sorted(new / old for old, new in zip(before, after, strict=True))
    low, high = interval(len(ratios))
    unit, scale = ("MB", 1e-6) if figure == "memory" else ("ms", 1e3)
    return (
        f"{figure:15} {statistics.median(before) * scale:9.3f} -> {statistics.median(after) * scale:9.3f} {unit}, "
        f"ratio {statistics.median(ratios):.4f} (95 % interval {ratios[low]:.4f} to {ratios[high]:.4f})"
    )


def interval(count: int) -> tuple[int, int]:
    """Ranks, from 0, of the order statistics that enclose the median with a probability of at least 95 %."""
    low, below = 0, 1 / 2**count
    while 2 * low < count - 1 and (below := below + math.comb(count, low + 1) / 2**count) <= 0.025:
        low += 1
    return low, count - 1 - low


if __name__ == "__main__":
    main()
