"""The real value of one integer step of every value, chosen so that few multiplications are left over.

An integer graph fixes its scales only up to a choice: any activation may be measured in units of any size, as long as
the weights that read it and the weights that write it agree. :class:`Units` gives every value a *unit*, the real number
that one integer step stands for, per channel; a requantization then changes the unit but not the real value, and all
that is left of it is a clip. Where a convolution's sum runs into one requantization, the convolution writes straight
in units that make the clip a single number for all channels; its weights carry ``factor / 2**shift``. Sizes are chosen
so that shortcuts enter sums as they are stored, up to the rounding of their factors, logits are logits, and a sum that
is made small only to become a sum again has a unit of its own in each channel.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nybble.graph.graph import Graph
from nybble.graph.nodes import Add, AvgPool2d, Concat, Conv2d, MaxPool2d, Node, Quantize, ReLU, Scale
from nybble.graph.types import ACTIVATIONS, Array

#: What stands for a factor of 0, whose channel is always 0: a unit of 0 has no inverse, and sums of 32 bits times this
#: are 0 after any rounding.
SILENT = 2.0**-60


class Units:
    """Units of all values of a graph.

    Parameters
    ----------
    graph : Graph
    inputs : mapping of str to array
        Unit of each input, (channels).

    Attributes
    ----------
    of : dict of str to array
        float64 (channels), by value.
    """

    def __init__(self, graph: Graph, inputs: Mapping[str, Array]) -> None:
        self._graph = graph
        self._readers = graph.consumers()
        self._wanted: dict[str, Array] = {}
        self.of: dict[str, Array] = dict(inputs)
        self._plan()
        self._rest()

    def is_detour(self, node: Node) -> bool:
        """Whether a sum is made small only to become a sum again: then its unit is free in each channel."""
        if not isinstance(node, Quantize) or node.output_type not in ACTIVATIONS or node.name in self._graph.outputs:
            return False
        readers = self._readers[node.name]
        return len(readers) == 1 and isinstance(readers[0], Quantize) and readers[0].output_type not in ACTIVATIONS

    def _plan(self) -> None:
        """Fix the units of activations and what sums should have, first to last.

        A sum whose way leads only to one requantization or scale takes the unit that this wants; so the unit of a
        requantized activation must be known before the sums that run into it are written, and it depends only on
        activations that come earlier in the graph.
        """
        for node in self._graph:
            if self.is_detour(node):
                continue
            if isinstance(node, Quantize) and node.output_type in ACTIVATIONS:
                step = step_of(node)
                size = self._size(node, step)
                self.of[node.name] = np.full(step.shape, size)
                self._want(node.inputs[0], size * step)
            elif isinstance(node, Scale):
                scale = np.abs(node.out_scale.numpy().reshape(-1).astype(np.float64))
                self._want(node.inputs[0], 1.0 / scale)
            elif isinstance(node, MaxPool2d | AvgPool2d | Concat) and all(name in self.of for name in node.inputs):
                self.of[node.name] = np.concatenate([self.of[name] for name in node.inputs])
        for node in self._graph:
            if isinstance(node, Quantize) and self.is_detour(node) and node.name not in self.of:
                self._detour(node, np.ones(node.factor.shape))

    def _rest(self) -> None:
        """The units of sums and of what pools make of detours."""
        for node in self._graph:
            if node.name in self.of:
                continue
            channels = self._graph.values[node.name].shape[0]
            match node:
                case ReLU() | MaxPool2d() | AvgPool2d():
                    unit = self.of[node.inputs[0]]
                case Add():
                    unit = self._wanted.get(node.name, self.of[node.inputs[0]])
                case Quantize():
                    unit = self._wanted.get(node.name, self.of[node.inputs[0]] / step_of(node))
                case Concat():
                    unit = np.concatenate([self.of[name] for name in node.inputs])
                case Scale():
                    unit = np.ones(channels)
                case Conv2d() if is_average(self._graph, node):
                    unit = self.of[node.inputs[0]] / (node.kernel_size.rows * node.kernel_size.columns)
                case _:
                    unit = self._wanted.get(node.name, np.ones(channels))
            self.of[node.name] = unit

    def _detour(self, node: Quantize, unit: Array) -> None:
        self.of[node.name] = unit
        self._want(node.inputs[0], unit * step_of(node))

    def _size(self, node: Quantize, step: Array) -> float:
        """The size of the unit of a requantized activation: such that a shortcut in its sum passes unchanged."""
        for leaf in self._leaves(node.inputs[0]):
            if isinstance(leaf, Quantize):
                source = self.of[leaf.inputs[0]]
                shortcut = leaf.factor.numpy() / 2.0**leaf.shift
                alive = (shortcut > 0) & (step > SILENT)
                if np.any(alive):
                    # A channel that is never active may have any factor: the median is not moved by a few of them.
                    return float(np.median(source[alive] / (shortcut[alive] * step[alive])))
        return 1.0

    def _leaves(self, name: str) -> list[Node]:
        """What a sum is made of: the convolutions and stored shortcuts that it adds, as far as nobody else reads it."""
        if self._is_input(name) or len(self._readers[name]) != 1 or name in self._graph.outputs:
            return []
        node = self._graph[name]
        if isinstance(node, ReLU | Add):
            return [leaf for source in node.inputs for leaf in self._leaves(source)]
        if isinstance(node, Quantize) and node.inputs[0] not in self.of:
            return []
        return [node]

    def _want(self, name: str, unit: Array) -> None:
        if self._is_input(name) or len(self._readers[name]) != 1 or name in self._graph.outputs:
            return
        if self._graph.values[name].dtype in ACTIVATIONS:
            return
        node = self._graph[name]
        self._wanted[name] = unit
        if isinstance(node, ReLU | Add):
            for source in node.inputs:
                self._want(source, unit)
        elif isinstance(node, Quantize) and not self._is_input(node.inputs[0]):
            stored = self._graph[node.inputs[0]]
            if isinstance(stored, Quantize) and self.is_detour(stored):
                self._detour(stored, unit * step_of(node))

    def _is_input(self, name: str) -> bool:
        return any(entry.name == name for entry in self._graph.inputs)


def is_average(graph: Graph, node: Conv2d) -> bool:
    """Whether a convolution stands for an average over each channel's image, which nothing rounds."""
    shape = graph.values[node.inputs[0]].shape
    alone = node.groups == node.in_channels == node.out_channels and node.bias is None
    return alone and shape[1:] == node.kernel_size and not any(node.padding) and bool(np.all(node.weight.numpy() == 1))


def step_of(node: Quantize) -> Array:
    """What a Quantize multiplies by, float64 (channels); :data:`SILENT` for 0."""
    step: Array = node.factor.numpy().astype(np.float64) / 2.0**node.shift
    return np.where(step > 0, step, SILENT)
