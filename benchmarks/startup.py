"""How long commands take to start: ``python benchmarks/startup.py [--runs 10] [--photo FILE]``.

Each is a process of its own, in turns, after one that warms the page cache. Median and range of wall time.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

_PYTHON = [sys.executable, "-c"]
_NYBBLE = [sys.executable, "-m", "nybble"]


def commands(photo: str) -> dict[str, tuple[list[str], float | None]]:
    """What is timed, and its limit in seconds."""
    return {
        "python -c pass": ([*_PYTHON, "pass"], None),
        "import numpy": ([*_PYTHON, "import numpy"], None),
        "import nybble": ([*_PYTHON, "import nybble"], 0.05),
        "nybble --help": ([*_NYBBLE, "--help"], 0.2),
        "nybble classify --help": ([*_NYBBLE, "classify", "--help"], 0.25),
        "nybble quantize --help": ([*_NYBBLE, "quantize", "--help"], 0.25),
        "nybble classify PHOTO": ([*_NYBBLE, "classify", photo], 0.45),
        "nybble.load().classify(PHOTO)": ([*_PYTHON, f"import nybble; nybble.load().classify([{photo!r}])"], 0.45),
    }


def seconds(command: list[str]) -> float:
    """Wall time of a process."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    begun = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True, env=environment)  # noqa: S603
    return time.perf_counter() - begun


def main() -> None:
    """Print the table; limits are for a quiet machine."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--photo", help="a photo of your own instead of a drawn one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        photo = options.photo or str(Path(folder) / "drawn.png")
        if options.photo is None:
            samples = np.random.default_rng(0).integers(0, 256, (300, 450, 3), dtype=np.uint8)
            Image.fromarray(samples).save(photo)
        timed = commands(photo)
        taken: dict[str, list[float]] = {name: [] for name in timed}
        for command, _ in timed.values():
            seconds(command)
        for _ in range(options.runs):
            for name, (command, _) in timed.items():
                taken[name].append(seconds(command))
    print(f"{'':30} {'median s':>8} {'range':>14} {'limit':>6}")  # noqa: T201
    for name, (_, limit) in timed.items():
        found = taken[name]
        spread = f"{min(found):.3f}-{max(found):.3f}"
        print(f"{name:30} {statistics.median(found):8.3f} {spread:>14} {limit or '':>6}")  # noqa: T201


if __name__ == "__main__":
    main()
