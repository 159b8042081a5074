"""A tiny model and labelled photos on disk, and ways to run the command."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fake_engine import FakeEngine
from PIL import Image
from typer.testing import CliRunner

import nybble
from nybble.cli import app
from nybble.disturbance import Watch
from nybble.graph import Graph, read_graph, write_graph
from nybble.images import load_photo
from nybble.synthetic import bottleneck_resnet

CLASSES = 10

Run = Callable[..., Any]


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that nobody else uses: other tests run beside these, and their warning would be in the output."""
    monkeypatch.setattr(Watch, "taken", lambda self: None)


@pytest.fixture
def quick_quantization(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One thread, hardly any time for measuring speed, no TensorBoard, which takes a second to import."""
    import torch

    from nybble.quantize.pipeline import measure

    monkeypatch.setattr(measure, "_SECONDS", 0.001)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds a ``model/`` of ten classes for photos of 32x32."""
    folder = tmp_path_factory.mktemp("tiny")
    drawn = bottleneck_resnet(blocks=(1, 1, 1, 1), width=8, image=32, classes=CLASSES)
    names = [f"thing {index}" for index in range(CLASSES)]
    graph = Graph(drawn.inputs, drawn.nodes, drawn.outputs, preprocessing=drawn.preprocessing, class_names=names)
    write_graph(graph, folder)
    return folder


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Path:
    """Seven photos; all but the last two are labelled with the class that the model gives them."""
    folder = tmp_path_factory.mktemp("photos")
    engine = FakeEngine(read_graph(model))
    generator = np.random.default_rng(7)
    with (folder / "labels.csv").open("w", newline="") as sink:
        writer = csv.writer(sink)
        writer.writerow(("file", "label", "author"))
        for i in range(7):
            file = f"{i}.png"
            Image.fromarray(generator.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(folder / file)
            logits = engine(load_photo(folder / file, engine.graph.preprocessing)[None])[0]
            order = np.argsort(-logits, kind="stable")
            label = order[0] if i < 5 else order[1] if i == 5 else order[-1]
            writer.writerow((file, label, "drawn, at random"))
    return folder


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Stands in for ``nybble.load`` and ``nybble.Engine``; ``made`` lists the engines, ``faults`` spoils them."""
    state = SimpleNamespace(made=[], faults={})

    def make(graph: Graph, threads: int | None = None, isa: str | None = None, device: str = "reference") -> FakeEngine:
        assert device == "reference"
        result = FakeEngine(graph, threads, isa)
        result.faults = state.faults
        state.made.append(result)
        return result

    monkeypatch.setattr(nybble, "Engine", make, raising=False)
    monkeypatch.setattr(nybble, "load", lambda path, **options: make(read_graph(path), **options), raising=False)
    return state


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No model of this machine's user or checkout takes part."""
    monkeypatch.setenv("NYBBLE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("NYBBLE_MODEL", raising=False)
    monkeypatch.delenv("NYBBLE_TRACEBACK", raising=False)
    monkeypatch.setenv("COLUMNS", "100")


@pytest.fixture
def run() -> Run:
    """Run the command in this process: ``run("inspect", model).stdout``."""

    def call(*arguments: object) -> Any:
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return call


@pytest.fixture
def nybble_process() -> Run:
    """Run the command in a process of its own."""

    def call(*arguments: object, **options: Any) -> Any:
        code = "from nybble.cli import app; app()"
        command = [sys.executable, "-c", code, *(str(argument) for argument in arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **options)

    return call
