"""From a plan to a native program: values, packed weights, steps."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nybble.backends.cpu.builder import Builder
from nybble.backends.cpu.kinds import kind_of
from nybble.backends.cpu.plan import Plan
from nybble.graph import Preprocessing
from nybble.graph.types import Array


class Built:
    """A native program, the ids of its values and lists by name, and the shapes and dtypes that each call needs.

    Between two calls on batches of one image, Python's own code leaves the caches. Even a few lines of it cost much
    time then, so everything is prepared here.
    """

    def __init__(self, plan: Plan, threads: int, most_images: int) -> None:
        self.plan = plan
        self.graph = plan.graph
        builder = Builder(plan, threads, most_images)
        builder.program.set_input(builder.value(plan.values[self.graph.inputs[0].name]))
        for step in plan.steps:
            kind_of(step).add(step, builder)
        #: The results in the order in which runs write them: those of 32 bits first, so that all are aligned.
        self.outputs = sorted(self.graph.outputs, key=lambda name: -self._itemsize(name))
        builder.program.set_outputs([builder.ids[name] for name in self.outputs])
        self.program = builder.program
        self.ids = builder.ids
        self.step_names = builder.step_names
        #: Shape and storage of each result, by its name.
        self._parts = [(name, plan.values[name].shape, plan.values[name].dtype.storage) for name in self.outputs]
        self._buffers: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] = {}
        self._table: Array | None = None

    def restore(self, name: str, values: Array) -> Array:
        """(N, ...) elements of a value as the engine stores them, in the graph's channel order."""
        order = self.plan.orders.get(name)
        if order is None:
            return values
        restored = np.empty_like(values)
        restored[:, order] = values
        return restored

    def buffer(self, name: str, images: int) -> Array:
        """An array for a value of ``images`` images, in the graph's shape and the type's storage."""
        if name not in self._buffers:
            value = self.plan.values[name]
            self._buffers[name] = (value.shape, value.dtype.storage)
        shape, dtype = self._buffers[name]
        return np.empty((images, *shape), dtype)

    def results(self, images: int) -> tuple[Array, dict[str, Array]]:
        """Bytes for the results of ``images`` images, and the part of each by its name, in the graph's order."""
        sizes = [images * math.prod(shape) * storage.itemsize for _, shape, storage in self._parts]
        together = np.empty(sum(sizes), np.uint8)
        parts, first = {}, 0
        for (name, shape, storage), size in zip(self._parts, sizes, strict=True):
            parts[name] = together[first : first + size].view(storage).reshape(images, *shape)
            first += size
        return together, {name: parts[name] for name in self.graph.outputs}

    def _itemsize(self, name: str) -> int:
        return self.plan.values[name].dtype.storage.itemsize

    def table(self, preprocessing: Preprocessing) -> Array:
        """The bytes of the table from 8-bit samples to the network's input."""
        if self._table is None:
            self._table = preprocessing.table().view(np.uint8)
        return self._table
