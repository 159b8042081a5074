"""The interpreter as an executable."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import numpy as np

from nybble.backends.base import Backend, Executable, Options
from nybble.backends.errors import EngineError
from nybble.graph import Graph, Preprocessing
from nybble.graph.types import Array
from nybble.reference import compute, interpret

#: Largest number of images that are interpreted together, which bounds memory.
BATCH_IMAGES = 4


class ReferenceBackend(Backend):
    """Makes interpreters."""

    name = "reference"
    takes_several_outputs = True

    def compile(self, graph: Graph, options: Options) -> Executable:
        """An interpreter of any valid graph. It has one thread and no instruction sets or kernels to choose."""
        if options.threads not in (None, 1):
            raise EngineError(f"threads={options.threads}: the reference runs on one thread")
        if options.isa is not None:
            raise EngineError(f"isa={options.isa!r}: the reference has no instruction sets")
        if options.choices is not None:
            raise EngineError("the reference has no kernels to choose")
        return Interpreter(graph)


class Interpreter(Executable):
    """An executable that interprets a graph."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.threads = 1
        self.isa = ReferenceBackend.name

    @property
    def step_names(self) -> Sequence[str]:
        """Names of all nodes: every node is a step."""
        return [node.name for node in self.graph]

    @property
    def value_bytes(self) -> int:
        """Largest number of bytes of values in memory at a time; values are freed after their last use."""
        graph = self.graph
        sizes = {name: math.prod(value.shape) * value.dtype.storage.itemsize for name, value in graph.values.items()}
        last = {name: position for position, node in enumerate(graph) for name in node.inputs}
        live = {entry.name for entry in graph.inputs}
        most = 0
        for position, node in enumerate(graph):
            live.add(node.name)
            most = max(most, sum(sizes[name] for name in live))
            live = {name for name in live if last.get(name, -1) > position}
        return most

    def run(self, x: Array) -> Array:
        """Runs a few images at a time."""
        return self.run_several(x, None)[self.graph.outputs[0]]

    def run_several(self, x: Array, preprocessing: Preprocessing | None) -> dict[str, Array]:
        """Runs a few images at a time."""
        if preprocessing is not None:
            x = self.codes(x, preprocessing)
        values = {name: self.graph.values[name] for name in self.graph.outputs}
        results = {name: np.empty((len(x), *value.shape), value.dtype.storage) for name, value in values.items()}
        for first in range(0, len(x), BATCH_IMAGES):
            part = slice(first, first + BATCH_IMAGES)
            found = interpret(self.graph, x[part])
            for name, result in results.items():
                result[part] = found[name]
        return results

    def tap(self, x: Array) -> dict[str, Array]:
        """Returns every node's value."""
        values = interpret(self.graph, x, keep=None)
        return {name: values[name] for name in self.step_names}

    def step_times(self, x: Array) -> dict[str, int]:
        """Times each node alone."""
        values = {self.graph.inputs[0].name: x}
        times = {}
        for node in self.graph:
            start = time.perf_counter_ns()
            types = [self.graph.values[name] for name in node.inputs]
            values[node.name] = compute(node, types, [values[name] for name in node.inputs])
            times[node.name] = time.perf_counter_ns() - start
        return times

    def close(self) -> None:
        """Does nothing: an interpreter holds no threads or memory."""
