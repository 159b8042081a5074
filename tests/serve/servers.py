"""Servers of a tiny model: in a process of their own, or in the test's event loop."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from nybble.graph import Graph, write_graph
from nybble.synthetic import bottleneck_resnet

CLASSES = 10
SHAPE = (32, 32, 3)
#: Seconds that a server may take to start or to end, however busy the machine.
PATIENCE = 180


def tiny(folder: Path, seed: int = 0) -> Path:
    """Write a network of ten classes for photos of 32x32."""
    drawn = bottleneck_resnet(blocks=(1, 1, 1, 1), width=8, image=32, classes=CLASSES, seed=seed)
    names = [f"thing {index}" for index in range(CLASSES)]
    graph = Graph(drawn.inputs, drawn.nodes, drawn.outputs, preprocessing=drawn.preprocessing, class_names=names)
    write_graph(graph, folder)
    return folder


def photo(seed: int = 0, size: tuple[int, int] = (50, 40), kind: str = "PNG") -> bytes:
    """An encoded photo of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, kind)
    return sink.getvalue()


def images(count: int, seed: int = 0) -> Any:
    """Decoded photos (count, 32, 32, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (count, *SHAPE), dtype=np.uint8)


@dataclass
class Running:
    """A server in a process of its own."""

    process: subprocess.Popen[str]
    host: str
    port: int
    grpc_port: int
    scheme: str = "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it and return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)


@contextmanager
def running(*arguments: object, log: Path, port: int = 0, temporary: Path | None = None) -> Iterator[Running]:
    """``nybble serve``, by default on free ports; what it logs goes to a file, its temporary files to a folder."""
    given = [*map(str, arguments), "--port", str(port), "--grpc-port", "0", "--threads", "1", "--timeout", "600"]
    with log.open("w") as sink:
        process = subprocess.Popen(
            [sys.executable, "-m", "nybble", "serve", *given],
            stdout=subprocess.PIPE,
            stderr=sink,
            text=True,
            env=os.environ | ({"TMPDIR": str(temporary)} if temporary else {}),
        )
    # A server that hangs would hang the reader of its output too.
    timer = threading.Timer(PATIENCE, process.kill)
    timer.start()
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        timer.cancel()
        found = re.fullmatch(r"serving .* on (https?)://([\d.]+):(\d+), gRPC on [\d.]+:(\d+)\n", line)
        assert found, (line, log.read_text())
        yield Running(process, found[2], int(found[3]), int(found[4]), found[1])
    finally:
        timer.cancel()
        process.kill()
        process.wait()
        process.stdout.close()


class Gate:
    """Holds a model's runs until it is opened, and counts them."""

    def __init__(self, run: Callable[[Any], Any]) -> None:
        self._run = run
        self.opened = threading.Event()
        self.entered = threading.Event()
        self.sizes: list[int] = []

    def __call__(self, photos: Any) -> Any:
        self.sizes.append(len(photos))
        self.entered.set()
        assert self.opened.wait(PATIENCE)
        return self._run(photos)


@dataclass
class Inside:
    """A server in the test's own event loop, whose model waits at a gate."""

    service: Any
    app: Any
    gate: Gate


@asynccontextmanager
async def inside(model: Path, tokens: frozenset[str] = frozenset(), **settings: Any) -> AsyncIterator[Inside]:
    """A service of the model ``tiny``; the gate is closed at first."""
    from nybble.serve.rest import make_app
    from nybble.serve.service import Service
    from nybble.serve.settings import ModelSettings, Settings

    own = {name: settings.pop(name) for name in ("queue", "batch") if name in settings}
    models = {"tiny": ModelSettings(path=str(model), **own)}
    async with Service(Settings(models=models, threads=1, access_log=False, **settings)) as service:
        await service.repository.load("tiny")
        lane = service.repository.get("tiny").lane
        gate = lane.run = Gate(lane.run)
        try:
            yield Inside(service, make_app(service, tokens), gate)
        finally:
            gate.opened.set()
