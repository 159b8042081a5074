"""What LoadGen costs: ``nybble bench`` and ``nybble mlperf run --scenario Offline``, interleaved, in the same setting.

``python benchmarks/mlperf/overhead.py MODEL --images DIR --pairs 5`` prints the speeds of each pair and the median of
their ratios. On a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import typer

SHORT = Path(__file__).with_name("short.conf")


def main() -> None:
    """Measure the pairs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a model folder or the name of a model")
    parser.add_argument("--images", type=Path, required=True, help="labelled photos")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    setting = ["--images", given.images, "--batch", given.batch, "--threads", given.threads]
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        for pair in range(1, given.pairs + 1):
            path = Path(folder) / "bench.json"
            _nybble("bench", given.model, *setting, "--seconds", 10, "--no-dense", "--output", path)
            (bench,) = json.loads(path.read_text(encoding="utf-8"))["runs"]
            run = ("--user-conf", SHORT, "--out", Path(folder) / "out", "--json")
            offline = json.loads(_nybble("mlperf", "run", given.model, *setting, *run))
            before, after = bench["images_per_second"], offline["performance"]["figure"]
            ratios.append(after / before)
            typer.echo(f"{pair}: bench {before:.1f}, Offline {after:.1f} samples/s, {ratios[-1]:.3f} of it")
    typer.echo(f"median {statistics.median(ratios):.3f}, {min(ratios):.3f} to {max(ratios):.3f}")


def _nybble(*arguments: Any) -> str:
    command = [sys.executable, "-c", "from nybble.cli import app; app()", *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout  # noqa: S603


if __name__ == "__main__":
    main()
