"""A backend of another package: one image after the other."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from nybble.backends import Backend, Executable, Options
from nybble.backends.errors import EngineError
from nybble.graph import Graph
from nybble.graph.types import Array
from nybble.reference import compute


class OutsideBackend(Backend):
    name = "outside"

    def compile(self, graph: Graph, options: Options) -> Executable:
        if options.isa is not None:
            raise EngineError(f"isa={options.isa!r}: outside has none")
        return OutsideExecutable(graph)


class OutsideExecutable(Executable):
    def __init__(self, graph: Graph) -> None:
        self.graph, self.threads, self.isa = graph, 1, "outside"
        self.is_closed = False

    @property
    def step_names(self) -> Sequence[str]:
        return [node.name for node in self.graph]

    @property
    def value_bytes(self) -> int:
        values = self.graph.values.values()
        return sum(int(np.prod(value.shape)) * value.dtype.storage.itemsize for value in values)

    def run(self, x: Array) -> Array:
        return self.tap(x)[self.graph.outputs[0]]

    def tap(self, x: Array) -> dict[str, Array]:
        images = [self._image(x[i : i + 1])[0] for i in range(len(x))]
        return {name: np.concatenate([values[name] for values in images]) for name in self.step_names}

    def step_times(self, x: Array) -> dict[str, int]:
        return self._image(x)[1]

    def close(self) -> None:
        self.is_closed = True

    def _image(self, x: Array) -> tuple[dict[str, Array], dict[str, int]]:
        values, times = {self.graph.inputs[0].name: x}, {}
        for node in self.graph:
            start = time.perf_counter_ns()
            types = [self.graph.values[name] for name in node.inputs]
            values[node.name] = compute(node, types, [values[name] for name in node.inputs])
            times[node.name] = time.perf_counter_ns() - start
        return values, times


backend = OutsideBackend()
