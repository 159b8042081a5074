"""Instructions that one image takes on processors of ARM: nybble beside ncnn's INT8, on an emulated processor.

``python benchmarks/arm/count.py MODEL [--images DIR]``. Nothing is timed: qemu-user executes the instructions, and the
plugin beside this file counts them by kind. One thread; two images minus one. See docs/arm.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from ncnn_param import ncnn_param

from nybble.bench.photos import noise, read_photos
from nybble.graph import Graph, read_graph
from nybble.models import locate

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
CROSS = REPOSITORY / "tests" / "cross"
#: Without dot products, with them, with all that qemu emulates.
PROCESSORS = ("cortex-a72", "cortex-a76", "max")
COMPILER = "aarch64-linux-gnu-g++"

Counts = dict[str, int]


class Emulator:
    """The aarch64 Python of ``make cross`` and the plugin, both made where they are missing."""

    def __init__(self, folder: Path, python: Path) -> None:
        self.folder, self.python = folder, python
        folder.mkdir(parents=True, exist_ok=True)
        install = os.environ.get("INSTALL", f"{sys.executable} -m pip install --quiet --disable-pip-version-check")
        environment = {**os.environ, "INSTALL": install, "PATH": f"{REPOSITORY / '.venv/bin'}:{os.environ['PATH']}"}
        subprocess.run(["bash", CROSS / "prepare.sh", python], check=True, env=environment)
        subprocess.run(["bash", CROSS / "build.sh", COMPILER, folder / COMPILER, python], check=True, env=environment)
        self.plugin = folder / "count.so"
        options = ["-std=c++20", "-O2", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-shared", "-fPIC"]
        subprocess.run(["c++", *options, HERE / "plugin.cpp", "-o", self.plugin], check=True)

    def count(self, processor: str, *arguments: str | Path) -> tuple[str, Counts]:
        """What ``guest.py`` says about itself, and what one of its images takes."""
        environment = {
            **os.environ,
            "QEMU_CPU": processor,
            "QEMU_PLUGIN": str(self.plugin),
            "PYTHONPATH": f"{self.folder / COMPILER}:{self.python / 'site'}",
            "OPENBLAS_NUM_THREADS": "1",
        }
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        command = [self.python / "python3", HERE / "guest.py", *arguments]
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        marks = [json.loads(line) for line in ran.stderr.splitlines() if line.startswith('{"mark"')]
        if ran.returncode != 0 or [mark.pop("mark") for mark in marks] != [1, 2]:
            raise SystemExit(f"{processor}: {arguments[0]} failed\n{ran.stderr[-2000:]}")
        one, two = marks
        return ran.stdout.strip(), {kind: two[kind] - one[kind] for kind in one}


def photos_of(graph: Graph, images: Path | None, target: Path) -> str:
    """Write one photo, which the network's preprocessing has cut, or noise; returns where it comes from."""
    if graph.preprocessing is None:
        raise SystemExit("the model has no file `preprocessing`")
    found = noise(1, graph.preprocessing) if images is None else read_photos(images, graph.preprocessing, 1)
    np.save(target, found.samples[:1])
    return found.source


def table(results: dict[str, tuple[str, Counts]]) -> str:
    """Millions of instructions: a line for each processor and engine, a column for each kind that occurs."""
    kinds = [kind for kind in next(iter(results.values()))[1] if any(counts[kind] for _, counts in results.values())]
    lines = [f"| processor, engine | all | {' | '.join(kinds)} |", f"|{'---|' * (len(kinds) + 2)}"]
    for name, (_, counts) in results.items():
        millions = [f"{counts[kind] / 1e6:.1f}" for kind in kinds]
        lines.append(f"| {name} | {sum(counts.values()) / 1e6:.1f} | {' | '.join(millions)} |")
    return "\n".join(lines)


def main() -> None:
    """Count, print tables, write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", help="a model directory, or the name of a model")
    parser.add_argument(
        "--images", type=Path, help="a folder of photos, of which the first is taken; without it: noise"
    )
    parser.add_argument("--cpu", action="append", choices=PROCESSORS, help="may be repeated; without it: all")
    parser.add_argument("--engine", action="append", choices=("nybble", "ncnn"), help="without it: both")
    parser.add_argument("--json", type=Path, help="write the counts there")
    parser.add_argument("--folder", type=Path, default=REPOSITORY / "build" / "cross", help="of what is built")
    parser.add_argument("--python", type=Path, help="the aarch64 Python; without it: FOLDER/python")
    options = parser.parse_args()
    folder = options.folder.resolve()
    emulator = Emulator(folder, (options.python or folder / "python").resolve())
    model = locate(options.model)
    graph = read_graph(model)
    photos, param = folder / "photo.npy", folder / "network.param"
    source = photos_of(graph, options.images, photos)
    text, last = ncnn_param(graph)
    param.write_text(text)
    arguments = {"nybble": (model, photos), "ncnn": (param, graph.inputs[0].name, last)}
    results: dict[str, tuple[str, Counts]] = {}
    for processor in options.cpu or PROCESSORS:
        for engine in options.engine or arguments:
            said, counts = emulator.count(processor, engine, *arguments[engine])
            results[f"{processor}, {engine}"] = said, counts
            print(f"{processor}: {said}, {sum(counts.values()) / 1e6:.1f} million", flush=True)
    print(f"\nMillions of instructions for one image; {source}\n\n{table(results)}")
    if options.json is not None:
        options.json.write_text(
            json.dumps({name: {"about": said, **counts} for name, (said, counts) in results.items()})
        )


if __name__ == "__main__":
    main()
