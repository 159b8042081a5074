"""The way back: an integer network as one that can be trained.

A graph says what its integers are, not what they stand for: every activation's scale is free, as long as the weights
before and after it agree. They are chosen so that weights have the size of freshly initialised ones (He et al. 2015),
and that a shortcut needs no scaling of its own where it need not. Codes, biases, factors and shifts come out the same
when the network is converted again.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from nybble.graph import Conv2d, DType, Graph, Linear, Node, Quantize
from nybble.graph.types import Array
from nybble.quantize.config import ActivationConfig, LayerConfig, QuantizeConfig
from nybble.quantize.errors import QuantizeError
from nybble.quantize.fake.network import QuantizedNetwork, Step
from nybble.quantize.fake.quantizers import ActivationQuantizer, Method, WeightQuantizer
from nybble.quantize.fake.weighted import QuantizedLayer
from nybble.quantize.ops import operation_of_node
from nybble.quantize.ops.rounding import is_rescaling, is_rounding, multiplier
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
        In mode ``quantize``. Converted at once it gives the graph's answers. (Where one sum is rounded to two
        activations, factors of the second may differ by one.)

    Raises
    ------
    QuantizeError
        Naming the node that has no counterpart.
    """
    network = Restoration(graph, method).run()
    network.set_mode("quantize")
    return network


class Restoration:
    """What operations put the steps into that their nodes came from.

    Attributes
    ----------
    graph : Graph
    nodes : dict of str to Node
    consumers : dict of str to list of Node
        By value, the nodes that read it.
    made : dict of str to str
        By value of the graph, the step that makes it.
    quantizers : dict of str to ActivationQuantizer
        By value, the quantizer behind its codes.
    layers : dict of str to QuantizedLayer
        By value that is sums, the layer whose units they have.
    config : QuantizeConfig
    method : str
        ``ste`` or ``lsq``.
    """

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

    def run(self) -> QuantizedNetwork:
        """Let the operation of every node add its steps."""
        for node in self.graph:
            operation_of_node(node).restore(node, self)
        (channels, rows, columns) = self.graph.inputs[0].shape
        return QuantizedNetwork(
            self._steps,
            self._input,
            (channels, rows, columns),
            self.config,
            self.graph.preprocessing,
            self.graph.class_names,
        )

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
        if quantizer.shift != shift and first in self.config.activations:
            # One quantizer has one shift; where the graph has several, conversion chooses.
            quantizer.shift = self.config.activations[first].shift = None
        return quantizer

    # What the integers stand for

    def scale(self, name: str) -> float:
        """The step of a value's codes."""
        name = self._joined.get(name, name)
        if name not in self._scales:
            node = self.nodes[name]
            self._scales[name] = operation_of_node(node).step_of(node, self)
        return self._scales[name]

    def chosen_scale(self, node: Quantize) -> float:
        """A step for the codes that a node makes of sums, where the graph leaves it open."""
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
        found = operation_of_node(source).scale_behind(source, node, self)
        if found is not None:
            return found
        layer = self.layer_of(source.name)
        weight = layer.weight.numpy().astype(np.float64)
        scaled = weight * multiplier(node).reshape(-1, *[1] * (weight.ndim - 1))
        size = math.sqrt(float(np.mean(scaled**2))) or 1.0
        return math.sqrt(2.0 / weight[0].size) * self.scale(layer.inputs[0]) / size

    def unit(self, node: Conv2d | Linear) -> Array:
        """(K,): what a unit of a layer's sums stands for."""
        if node.name not in self._units:
            units = self.unit_from_readers(node.name)
            if units is None:
                weight = node.weight.numpy().astype(np.float64)
                size = math.sqrt(float(np.mean(weight**2))) or 1.0
                units = np.full(len(weight), math.sqrt(2.0 / weight[0].size) / size * self.scale(node.inputs[0]))
            self._units[node.name] = units
        return self._units[node.name]

    def unit_from_readers(self, name: str) -> Array | None:
        """(K,): what a unit of sums stands for by what becomes of them, or ``None``."""
        if name in self.graph.outputs:
            return None
        reader = self.consumers[name][0]
        return operation_of_node(reader).unit_of_sums(reader, self)

    def layer_of(self, name: str) -> Conv2d | Linear:
        """The layer in whose units sums are."""
        node = self.nodes[name]
        while (main := operation_of_node(node).main_input(node, self)) is not None:
            node = self.nodes[main]
        if not isinstance(node, Conv2d | Linear):
            raise QuantizeError(f"{name}: reads {node.op}, where it needs a layer's sums")
        return node

    def is_rescaled(self, name: str) -> bool:
        """Whether a value is codes brought into the unit of sums."""
        node = self.nodes.get(name)
        return node is not None and is_rescaling(node)

    def is_projection(self, name: str) -> bool:
        """Whether a value is rounded sums that only additions read."""
        node = self.nodes.get(name)
        return node is not None and is_rounding(node) and all(is_rescaling(it) for it in self.consumers[name])

    def _first_of_joined(self) -> dict[str, str]:
        def origin(name: str) -> str:
            node = self.nodes.get(name)
            source = None if node is None else operation_of_node(node).copied_from(node, self)
            return name if source is None else origin(source)

        order = [entry.name for entry in self.graph.inputs] + list(self.nodes)
        found: dict[str, str] = {}
        nodes = ((node.name, node.inputs) for node in self.graph if operation_of_node(node).joins_codes)
        for names in joined_groups(nodes, origin):
            first, *others = sorted(names, key=order.index)
            found.update(dict.fromkeys(others, first))
        return found
