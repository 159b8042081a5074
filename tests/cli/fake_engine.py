"""An engine that is the reference in disguise, for tests of what commands do with one."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from nybble.graph import Graph
from nybble.graph.types import Array
from nybble.images import class_names, integer_input, load_photo
from nybble.reference import interpret

STEPS = ("quantize1", "layer1_0_quantize1", "scale")


class Prediction(NamedTuple):
    index: int
    name: str
    score: float


class FakeEngine:
    """The engine's interface over the reference; ``faults`` adds a number to one element of a tapped value."""

    isa = "reference"
    plan = "no plan"

    def __init__(self, graph: Graph, threads: int | None = None, isa: str | None = None) -> None:
        self.graph = graph
        self.threads = threads or 2
        self.faults: dict[str, tuple[int, ...]] = {}
        self.calls: list[int] = []

    def run_integer(self, x: Array) -> Array:
        result = interpret(self.graph, x)[self.graph.outputs[0]]
        return self._faulted(self.graph.outputs[0], result)

    def run(self, x: Array, *, integers: bool = False) -> dict[str, Array]:
        return {self.graph.outputs[0]: self.run_integer(x) if integers else self(x)}

    def prepare(self, photo: Path, *, exif: bool = True) -> Array:
        assert self.graph.preprocessing is not None
        return load_photo(photo, self.graph.preprocessing, exif=exif)

    def __call__(self, x: Array) -> Array:
        assert x.dtype == np.uint8
        self.calls.append(len(x))
        preprocessing = self.graph.preprocessing
        assert preprocessing is not None
        return interpret(self.graph, integer_input(x, preprocessing))[self.graph.outputs[0]]

    def tap(self, x: Array) -> dict[str, Array]:
        values = interpret(self.graph, x, keep=STEPS)
        return {name: self._faulted(name, values[name]) for name in STEPS}

    def classify(self, photos: list[Path], top: int = 5, *, exif: bool = True) -> list[list[Prediction]]:
        preprocessing = self.graph.preprocessing
        assert preprocessing is not None
        logits = self(np.stack([load_photo(photo, preprocessing, exif=exif) for photo in photos])).astype(np.float64)
        scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        names = class_names(self.graph)
        return [[Prediction(int(i), names[i], float(row[i])) for i in np.argsort(-row)[:top]] for row in scores]

    def _faulted(self, name: str, value: Array) -> Array:
        if name in self.faults and len(value) > self.faults[name][0]:
            value = value.copy()
            value[self.faults[name]] += 1
        return value
