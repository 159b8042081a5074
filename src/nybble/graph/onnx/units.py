"""The real value of one integer step of every value, chosen so that few multiplications remain.

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
from nybble.graph.onnx.form import operation
from nybble.graph.ops.questions import requantization, unit_of
from nybble.graph.ops.roles import Requantization
from nybble.graph.ops.units import Unit
from nybble.graph.types import ACTIVATIONS, Array

#: Replaces a factor of 0, whose channel is always 0: a unit of 0 has no inverse, and 32-bit sums times this number are
#: rounded to 0.
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
        rules = (requantization(node) for node in graph)
        self._rules = {rule.name: rule for rule in rules if rule is not None}
        self._wanted: dict[str, Array] = {}
        self.of: dict[str, Array] = dict(inputs)
        self._plan()
        self._rest()

    def is_detour(self, name: str) -> bool:
        """Whether a sum is requantized only to become a sum again: then its unit is free in each channel."""
        rule = self._rules.get(name)
        if rule is None or rule.output_type not in ACTIVATIONS or name in self._graph.outputs:
            return False
        behind = [self._rules.get(reader.name) for reader in self._readers[name]]
        return len(behind) == 1 and behind[0] is not None and behind[0].output_type not in ACTIVATIONS

    def _plan(self) -> None:
        """Determine the units of activations, and the preferred units of sums, from the first node to the last.

        A sum whose way leads only to one requantization or scale takes the unit that this wants; so the unit of a
        requantized activation must be known before the sums that run into it are written, and it depends only on
        activations that come earlier in the graph.
        """
        for node in self._graph:
            if self.is_detour(node.name):
                continue
            rule, wanted = self._rules.get(node.name), operation(node).wanted_unit(node)
            if rule is not None and rule.output_type in ACTIVATIONS:
                step = step_of(rule)
                size = self._size(rule, step)
                self.of[node.name] = np.full(step.shape, size)
                self._want(node.inputs[0], size * step)
            elif wanted is not None:
                self._want(node.inputs[0], wanted)
            elif unit_of(node) is Unit.INPUT and all(name in self.of for name in node.inputs):
                types = [self._graph.values[name] for name in node.inputs]
                unit = operation(node).real_unit(node, types, [self.of[name] for name in node.inputs])
                if unit is not None:
                    self.of[node.name] = unit
        for rule in self._rules.values():
            if self.is_detour(rule.name) and rule.name not in self.of:
                self._detour(rule, np.ones(rule.factor.shape))

    def _rest(self) -> None:
        """The units of sums and of what pools make of detours."""
        for node in self._graph:
            if node.name in self.of:
                continue
            types = [self._graph.values[name] for name in node.inputs]
            units = [self.of[name] for name in node.inputs]
            unit = operation(node).real_unit(node, types, units)
            if unit is None:
                unit = self._wanted.get(node.name)
            if unit is None and node.name in self._rules:
                unit = units[0] / step_of(self._rules[node.name])
            elif unit is None and unit_of(node) is Unit.JOINT:
                unit = units[0]
            self.of[node.name] = np.ones(self._graph.values[node.name].shape[0]) if unit is None else unit

    def _detour(self, rule: Requantization, unit: Array) -> None:
        self.of[rule.name] = unit
        self._want(rule.inputs[0], unit * step_of(rule))

    def _size(self, rule: Requantization, step: Array) -> float:
        """The size of the unit of a requantized activation: such that a shortcut in its sum passes unchanged."""
        for leaf in self._leaves(rule.inputs[0]):
            shortcut = self._rules.get(leaf)
            if shortcut is not None:
                source = self.of[shortcut.inputs[0]]
                factor = shortcut.factor.numpy() / 2.0**shortcut.shift
                alive = (factor > 0) & (step > SILENT)
                if np.any(alive):
                    # A channel that is never active may have any factor: the median is not moved by a few of them.
                    return float(np.median(source[alive] / (factor[alive] * step[alive])))
        return 1.0

    def _leaves(self, name: str) -> list[str]:
        """What a sum is made of: the convolutions and stored shortcuts that it adds, as far as nobody else reads it."""
        if self._is_input(name) or len(self._readers[name]) != 1 or name in self._graph.outputs:
            return []
        node = self._graph[name]
        if unit_of(node) is Unit.JOINT:
            return [leaf for source in node.inputs for leaf in self._leaves(source)]
        if name in self._rules and node.inputs[0] not in self.of:
            return []
        return [name]

    def _want(self, name: str, unit: Array) -> None:
        if self._is_input(name) or len(self._readers[name]) != 1 or name in self._graph.outputs:
            return
        if self._graph.values[name].dtype in ACTIVATIONS:
            return
        node = self._graph[name]
        self._wanted[name] = unit
        rule = self._rules.get(name)
        if unit_of(node) is Unit.JOINT:
            for source in node.inputs:
                self._want(source, unit)
        elif rule is not None and self.is_detour(rule.inputs[0]):
            self._detour(self._rules[rule.inputs[0]], unit * step_of(rule))

    def _is_input(self, name: str) -> bool:
        return any(entry.name == name for entry in self._graph.inputs)


def step_of(rule: Requantization) -> Array:
    """What a requantization multiplies by, float64 (channels); :data:`SILENT` for 0."""
    step: Array = rule.factor.numpy().astype(np.float64) / 2.0**rule.shift
    return np.where(step > 0, step, SILENT)
