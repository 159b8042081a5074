"""From an integer network back to one that can be trained.

A graph contains integers, but not their real values: every activation's scale is free, as long as the weights before
and after it agree. Scales are chosen so that weights have the size of initial weights (He et al. 2015), and that
shortcuts need no extra scaling if possible. Converting the network again gives the same codes, biases, factors and
shifts.
"""

from __future__ import annotations

import math
from typing import Any, TypeGuard

import numpy as np
import torch

from nybble.graph import Conv2d, DType, Graph, Linear, Node, Quantize, Scale
from nybble.graph.types import ACTIVATIONS, SUMS, Array
from nybble.quantize.config import ActivationConfig, LayerConfig, QuantizeConfig
from nybble.quantize.errors import QuantizeError
from nybble.quantize.fake.network import QuantizedNetwork, Step
from nybble.quantize.fake.operation import Returned
from nybble.quantize.fake.quantizers import ActivationQuantizer, Method, WeightQuantizer
from nybble.quantize.fake.weighted import QuantizedLayer
from nybble.quantize.lower.ties import REACHES, Bounds, Tie, exactly, solve, unit_between
from nybble.quantize.ops import operation_of_node
from nybble.quantize.ops.restoration import Restoration
from nybble.quantize.ops.rounding import is_logits, is_rescaling, is_rounding, median, multiplier, scale_units
from nybble.quantize.prepare.joined import joined_groups


def from_graph(graph: Graph, *, method: Method = "ste") -> QuantizedNetwork:
    """Turn an integer network into a fake-quantized one with the same weights and clipping ranges.

    Parameters
    ----------
    graph : Graph
        Convolutions and linear layers whose sums pass through additions and ReLUs to a Quantize each, as the
        published directory and :func:`nybble.quantize.convert` have them.
    method : str
        ``ste`` or ``lsq``.

    Returns
    -------
    QuantizedNetwork
        In mode ``quantize``. Converted at once it gives the graph's answers. (Factors may differ by one where several
        roundings of one sum have factors that belong to no common unit, as :func:`nybble.quantize.convert` never
        writes them.)

    Raises
    ------
    QuantizeError
        Naming the node that has no counterpart, or if roundings of one sum contradict each other.
    """
    network = _Restoration(graph, method).run()
    network.set_mode("quantize")
    return network


class _CircularError(Exception):
    """Raised if a scale is needed while it is being chosen."""


class _Restoration(Restoration):
    """The steps made so far, and the real values of the integers."""

    def __init__(self, graph: Graph, method: Method) -> None:
        if len(graph.inputs) != 1 or len(graph.inputs[0].shape) != 3 or len(graph.outputs) != 1:
            raise QuantizeError("only a graph of one image and one output can be restored")
        self.graph = graph
        self.method = method
        self.nodes = {node.name: node for node in graph}
        self.consumers = graph.consumers()
        self._steps: list[Step] = []
        self.config = QuantizeConfig(method=method)
        entry = graph.inputs[0]
        self._input = ActivationQuantizer(QuantizedNetwork.INPUT, entry.dtype)
        given = graph.preprocessing
        maximum = entry.dtype.maximum
        self._input.set_range(1.0 if given is None else given.scale_denominator / given.scale_numerator * maximum)
        self._scales: dict[str, float] = {entry.name: float(self._input.step())}
        self._units: dict[str, Array] = {}
        #: The step that makes each value of the graph, and the quantizer behind codes.
        self.made: dict[str, str] = {entry.name: QuantizedNetwork.INPUT}
        self.quantizers: dict[str, ActivationQuantizer] = {entry.name: self._input}
        self.layers: dict[str, QuantizedLayer] = {}
        #: Of values whose codes a concatenation copies side by side, the one whose quantizer all have.
        self._joined = self._first_of_joined()
        self._pending: set[str] = set()
        #: By what makes sums, the nodes that say what their unit is: those that round them, and one that makes logits.
        self._roundings, self._logits = self._readers_of_sums()
        #: What those say, by sums; and codes whose step follows from that of others.
        self._bounds, self._ties = self._tied()

    def run(self) -> QuantizedNetwork:
        """Let the operation of every node add its steps."""
        for node in self.graph:
            operation_of_node(node).restore(node, self)
        (channels, rows, columns) = self.graph.inputs[0].shape
        outputs = self._returned()
        return QuantizedNetwork(
            self._steps,
            self._input,
            (channels, rows, columns),
            self.config,
            self.graph.preprocessing,
            self.graph.class_names,
            outputs=outputs,
            task=self.graph.task,
        )

    def _returned(self) -> tuple[str, ...]:
        """Add the step of an output that is no (classes), and return its name."""
        (name,) = self.graph.outputs
        node = self.nodes[name]
        if math.prod(self.graph.values[name].shape[1:]) == 1 or not is_logits(node):
            return ()
        self._steps.append(Step(f"{name}.result", (self.made[node.inputs[0]],), Returned(name)))
        return (name,)

    def append(self, node: Node, module: torch.nn.Module, *sources: str) -> None:
        """Add the step that a node came from; ``sources`` are values of the graph."""
        self._steps.append(Step(node.name, tuple(self.made[source] for source in sources), module))
        self.made[node.name] = node.name

    def append_rounded(
        self, node: Node, module: torch.nn.Module, quantizer: ActivationQuantizer, *sources: str
    ) -> None:
        """Add the two steps that a node came from: what computes it, and the quantizer behind that."""
        self.append(node, module, *sources)
        behind = f"{node.name}.quantize"
        self._steps.append(Step(behind, (node.name,), quantizer))
        self.made[node.name] = behind

    def append_layer(self, node: Any, kind: type[QuantizedLayer], **own: Any) -> None:
        """Add the layer of a node with weights; ``own`` are further arguments of its class."""
        source = node.inputs[0]
        codes = node.weight.numpy().astype(np.float64)
        unit = self.unit(node)
        step = unit / self.scale(source)
        narrow = codes.min() >= -node.weight.dtype.maximum
        quantizer = WeightQuantizer(len(codes), node.weight.dtype.bits, self.method, narrow=bool(narrow))
        with torch.no_grad():
            quantizer.scale.copy_(torch.from_numpy(step))
        # In the steps and units that float32 holds, so that rounding finds the same codes again.
        weight = torch.from_numpy(codes) * quantizer.scale.detach().double().reshape(-1, *[1] * (codes.ndim - 1))
        kept = quantizer.scale.detach().double() * self.quantizers[source].step().detach().double()
        bias = None if node.bias is None else (torch.from_numpy(node.bias.numpy().astype(np.float64)) * kept).float()
        reads = self.quantizers[source]
        layer = kind(node.name, weight.float(), bias, quantizer, reads, **own)
        self.layers[node.name] = layer
        self.config.layers[node.name] = LayerConfig(weight_bits=node.weight.dtype.bits)
        self.append(node, layer, source)

    def inherit(self, node: Node, source: str | None = None) -> None:
        """Let a value's sums have the units of the layer that made them."""
        layer = self.layers.get(source or node.inputs[0])
        if layer is not None:
            self.layers[node.name] = layer

    def quantizer(self, name: str, dtype: DType, shift: int | None) -> ActivationQuantizer:
        """The quantizer of the value that a node gives: its own, or that of what its codes are joined with."""
        first = self._joined.get(name, name)
        if first not in self.quantizers:
            quantizer = ActivationQuantizer(name, dtype, self.method)
            quantizer.set_range(self.scale(name) * dtype.maximum)
            quantizer.shift = shift
            self.config.activations[name] = ActivationConfig(dtype=dtype, shift=shift)
            self.quantizers[first] = quantizer
        quantizer = self.quantizers[name] = self.quantizers[first]
        if shift is not None and quantizer.shift != shift:
            quantizer.shifts[name] = shift
            if first in self.config.activations:
                # A configuration has one shift for all; where the graph has several, it says none.
                self.config.activations[first].shift = None
        return quantizer

    # What the integers stand for

    def scale(self, name: str) -> float:
        """The step of a value's codes."""
        name = self._joined.get(name, name)
        if name not in self._scales:
            if name in self._pending:
                raise _CircularError
            self._pending.add(name)
            try:
                tie = self._ties.get(name)
                if tie is None:
                    node = self.nodes[name]
                    self._scales[name] = operation_of_node(node).step_of(node, self)
                else:
                    self._scales[name] = float(np.float32(self.scale(tie.lead) * tie.ratio))
            finally:
                self._pending.discard(name)
        return self._scales[name]

    def chosen_scale(self, node: Quantize) -> float:
        """A step for the codes that a node makes of sums, where the graph leaves it open."""
        try:
            found = self._suggested_scale(node)
        except _CircularError:
            # What would decide depends on this step itself, which therefore is free.
            found = None
        if found is not None:
            return found
        root = self.root_of(node.inputs[0])
        if is_rescaling(root):
            return self.scale(root.inputs[0]) / median(multiplier(root) * multiplier(node))
        own = operation_of_node(root).own_unit(root, self)
        if own is not None:
            return median(own / multiplier(node))
        layer = self.layer_of(node.inputs[0])
        weight = layer.weight.numpy().astype(np.float64)
        scaled = weight * multiplier(node).reshape(-1, *[1] * (weight.ndim - 1))
        size = math.sqrt(float(np.mean(scaled**2))) or 1.0
        return math.sqrt(2.0 / weight[0].size) * self.scale(layer.inputs[0]) / size

    def _suggested_scale(self, node: Quantize) -> float | None:
        """What additions make of the codes, or have made of the sums, if that decides."""
        if self.consumers[node.name] and self.is_projection(node.name):
            # Only additions read it: a projection shortcut.
            rescaling = self.consumers[node.name][0]
            reader = self.consumers[rescaling.name][0]
            found = None
            if is_rescaling(rescaling):
                found = operation_of_node(reader).scale_of_taken(reader, rescaling, self)
            if found is not None:
                return found
        source = self.nodes[node.inputs[0]]
        return operation_of_node(source).scale_behind(source, node, self)

    def unit(self, node: Node) -> Array:
        """(K,): what a unit of sums stands for, by what makes them: a layer, or a rescaling of codes (`root_of`)."""
        if node.name not in self._units:
            self._units[node.name] = self._found_unit(node)
        return self._units[node.name]

    def _found_unit(self, node: Node) -> Array:
        if bounds := self._bounds.get(node.name):
            return unit_between(bounds, {entry.codes: self.scale(entry.codes) for entry in bounds})
        if is_rescaling(node):
            return self.scale(node.inputs[0]) / multiplier(node)
        own = operation_of_node(node).own_unit(node, self)
        if own is not None:
            return own
        layer = self.layer_of(node.name)
        units = self.unit_from_readers(node.name)
        if units is not None:
            return units
        weight = layer.weight.numpy().astype(np.float64)
        size = math.sqrt(float(np.mean(weight**2))) or 1.0
        return np.full(len(weight), math.sqrt(2.0 / weight[0].size) / size * self.scale(layer.inputs[0]))

    def unit_from_readers(self, name: str) -> Array | None:
        """(K,): what a unit of sums stands for by what becomes of them, or ``None``."""
        if name in self.graph.outputs:
            return None
        reader = self.consumers[name][0]
        return operation_of_node(reader).unit_of_sums(reader, self)

    def finest_rounding(self, root: Node) -> float | None:
        """The finest step that sums are rounded to, or ``None`` if they are not."""
        return min((self.scale(node.name) for node in self._roundings.get(root.name, [])), default=None)

    def root_of(self, name: str) -> Node:
        """What makes the sums whose unit a value has: a layer, or a rescaling where activations are added."""
        node = self.nodes[name]
        while (main := operation_of_node(node).main_input(node, self)) is not None:
            node = self.nodes[main]
        return node

    def layer_of(self, name: str) -> Conv2d | Linear:
        """The layer in whose units sums are."""
        node = self.root_of(name)
        if not isinstance(node, Conv2d | Linear):
            raise QuantizeError(f"{name}: reads the result of {node.op}, where the sums of a layer are needed")
        return node

    def is_rescaled(self, name: str) -> bool:
        """Whether a value is codes brought into the unit of sums."""
        node = self.nodes.get(name)
        return node is not None and is_rescaling(node)

    def is_projection(self, name: str) -> bool:
        """Whether a value is rounded sums that only additions read."""
        node = self.nodes.get(name)
        return node is not None and is_rounding(node) and all(is_rescaling(it) for it in self.consumers[name])

    def _origin(self, name: str) -> str:
        """The value whose codes a value has: pools and padding copy them."""
        node = self.nodes.get(name)
        source = None if node is None else operation_of_node(node).copied_from(node, self)
        return name if source is None else self._origin(source)

    def _first_of_joined(self) -> dict[str, str]:
        order = [entry.name for entry in self.graph.inputs] + list(self.nodes)
        found: dict[str, str] = {}
        nodes = ((node.name, node.inputs) for node in self.graph if operation_of_node(node).joins_codes)
        for names in joined_groups(nodes, self._origin):
            first, *others = sorted(names, key=order.index)
            found.update(dict.fromkeys(others, first))
        return found

    def _readers_of_sums(self) -> tuple[dict[str, list[Quantize]], dict[str, Scale]]:
        roundings: dict[str, list[Quantize]] = {}
        logits: dict[str, Scale] = {}
        for node in self.graph:
            if is_logits(node):
                logits[self.root_of(node.inputs[0]).name] = node
            elif is_rounding(node) and self._rounds_sums(node):
                roundings.setdefault(self.root_of(node.inputs[0]).name, []).append(node)
        return roundings, logits

    def _tied(self) -> tuple[dict[str, list[Bounds]], dict[str, Tie]]:
        # A Scale says its units absolutely: in steps of one.
        exact = {name: exactly(node.name, scale_units(node)) for name, node in self._logits.items()}
        self._scales.update({bounds.codes: 1.0 for bounds in exact.values()})
        order = [
            *(bounds.codes for bounds in exact.values()),
            *(entry.name for entry in self.graph.inputs),
            *self.nodes,
        ]
        for reach in REACHES:
            sums = {name: [bounds] for name, bounds in exact.items()}
            for name, nodes in self._roundings.items():
                sums[name] = sums.get(name, []) + [self._bounds_of(node, reach) for node in nodes]
            codes = [self._bounds_between_codes(node, reach) for node in self.graph if self._rounds_codes(node)]
            ties = solve([*sums.values(), *codes], order)
            if ties is not None:
                return sums, ties
        names = [node.name for nodes in self._roundings.values() if len(nodes) > 1 for node in nodes]
        names += [node.name for node in self.graph if self._rounds_codes(node)]
        raise QuantizeError(
            f"{', '.join(names)}: their factors belong to no common unit of what they read; such a graph cannot be "
            "restored"
        )

    def _rounds_sums(self, node: Quantize) -> bool:
        """Whether a node makes codes of sums, which it does not where they only copy codes."""
        copied = operation_of_node(node).copied_from(node, self) is not None
        return self.graph.values[node.inputs[0]].dtype in SUMS and not copied

    def _rounds_codes(self, node: Node) -> TypeGuard[Quantize]:
        """Whether a node makes codes of codes."""
        return is_rounding(node) and self.graph.values[node.inputs[0]].dtype in ACTIVATIONS and not is_rescaling(node)

    def _bounds_between_codes(self, node: Quantize, reach: float) -> list[Bounds]:
        own = self._bounds_of(node, reach)
        return [own, exactly(self._codes_of(node.inputs[0]), np.ones(len(own.best)))]

    def _bounds_of(self, node: Quantize, reach: float) -> Bounds:
        return Bounds.of(node, self._codes_of(node.name), multiplier(node), reach)

    def _codes_of(self, name: str) -> str:
        """The value whose quantizer makes a value's codes."""
        name = self._origin(name)
        return self._joined.get(name, name)
