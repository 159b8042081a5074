"""The published ResNet-50 on real photos, in every instruction set."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from agreement import ISAS, assert_same

from nybble.engine import Engine
from nybble.graph import Graph, read_graph
from nybble.graph.types import Array
from nybble.images import integer_input, load_photo
from nybble.reference import interpret

pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def graph(shared_data: Path) -> Graph:
    return read_graph(shared_data / "nvidia-resnet50-int4")


@pytest.fixture(scope="module")
def rows(shared_data: Path) -> list[dict[str, str]]:
    with (shared_data / "imagenet-val-10" / "labels.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def images(shared_data: Path, graph: Graph, rows: list[dict[str, str]]) -> Array:
    assert graph.preprocessing is not None
    folder = shared_data / "imagenet-val-10"
    photos = np.stack([load_photo(folder / row["file"], graph.preprocessing, exif=False) for row in rows])
    return integer_input(photos, graph.preprocessing)


@pytest.fixture(scope="module")
def expected(graph: Graph, images: Array) -> dict[str, Array]:
    return interpret(graph, images[:2], keep=None)


@pytest.mark.parametrize("isa", ISAS)
def test_it_predicts_what_the_t4_predicted(graph: Graph, images: Array, rows: list[dict[str, str]], isa: str) -> None:
    # The portable kernels take a quarter of a second a photo.
    count = 4 if isa == "scalar" else len(rows)
    with Engine(graph, threads=2, isa=isa) as engine:
        answers = engine.run_integer(images[:count]).argmax(axis=1)
    assert list(answers) == [int(row["t4_prediction"]) for row in rows[:count]]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("isa", ISAS)
def test_every_step_equals_the_reference(
    graph: Graph, images: Array, expected: dict[str, Array], isa: str, threads: int
) -> None:
    """In batches of one and of three: the third is the first again."""
    with Engine(graph, threads=threads, isa=isa) as engine:
        for which in ([1], [0, 1, 0]):
            tapped = engine.tap(images[which])
            assert [step.output for step in engine.plan.steps] == list(tapped)
            for name, value in tapped.items():
                assert_same(value, expected[name][which], name)
            assert_same(engine.run_integer(images[which]), expected["scale"][which])


@pytest.mark.skipif("NYBBLE_SANITIZED" in os.environ, reason="sanitizers take memory of their own")
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("threads", [1, 2])
def test_a_process_that_runs_it_stays_small(shared_data: Path, threads: int) -> None:
    """Its peak, reached while it loads or runs, with NumPy: 78 MB when this was written, 35 of them before loading."""
    program = f"""if True:
        import numpy, nybble
        engine = nybble.load({str(shared_data / "nvidia-resnet50-int4")!r}, threads={threads}, tuned=False)
        for _ in range(3):
            engine(numpy.zeros((1, 224, 224, 3), numpy.uint8))
        print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
    """
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=True)
    assert int(ran.stdout) < 100 << 10
