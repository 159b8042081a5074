"""The way back: an integer network as one that can be trained.

A graph says what its integers are, not what they stand for: every activation's scale is free, as long as the weights
before and after it agree. They are chosen so that weights have the size of freshly initialised ones (He et al. 2015),
and that a shortcut needs no scaling of its own where it need not. Codes, biases, factors and shifts come out the same
when the network is converted again.
"""

from __future__ import annotations

import math
from functools import singledispatchmethod

import numpy as np
import torch

from nybble.graph import (
    Add,
    AvgPool2d,
    Concat,
    Conv2d,
    Graph,
    Linear,
    MaxPool2d,
    Node,
    Quantize,
    ReLU,
    Scale,
)
from nybble.graph.types import ACTIVATIONS, SUMS, Array
from nybble.quantize.config import ActivationConfig, LayerConfig, QuantizeConfig
from nybble.quantize.errors import QuantizeError
from nybble.quantize.fake import operations
from nybble.quantize.fake.network import QuantizedNetwork, Step
from nybble.quantize.fake.quantizers import ActivationQuantizer, Method, WeightQuantizer
from nybble.quantize.fake.weighted import QuantizedConv2d, QuantizedLayer, QuantizedLinear
from nybble.quantize.lower.conversion import ADDED_UNITS
from nybble.quantize.prepare.joined import joined_groups

#: A multiplier that rounds to a factor of 0 at the published shifts: of channels that a factor of 0 silences.
_SILENT = 2.0**-19


def from_graph(graph: Graph, *, method: Method = "ste") -> QuantizedNetwork:
    """Turn an integer network into a fake-quantized one with the same weights and clipping ranges.

    Parameters
    ----------
    graph : Graph
        Convolutions and linear layers whose sums pass through additions and ReLUs to a Quantize each, as the
        published directory and :func:`nybble.quantize.lower.conversion.convert` have them.
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
    network = _Restoration(graph, method).run()
    network.set_mode("quantize")
    return network


class _Restoration:
    def __init__(self, graph: Graph, method: Method) -> None:
        if len(graph.inputs) != 1 or len(graph.inputs[0].shape) != 3 or len(graph.outputs) != 1:
            raise QuantizeError("only a graph of one image and one output can be restored")
        self._graph = graph
        self._method = method
        self._nodes = {node.name: node for node in graph}
        self._consumers = graph.consumers()
        self._steps: list[Step] = []
        self._config = QuantizeConfig(method=method)
        entry = graph.inputs[0]
        self._input = ActivationQuantizer(QuantizedNetwork.INPUT, entry.dtype)
        given = graph.preprocessing
        maximum = entry.dtype.maximum
        self._input.set_range(1.0 if given is None else given.scale_denominator / given.scale_numerator * maximum)
        self._scales: dict[str, float] = {entry.name: float(self._input.step())}
        self._units: dict[str, Array] = {}
        #: The step that makes each value of the graph, and the quantizer behind codes.
        self._made: dict[str, str] = {entry.name: QuantizedNetwork.INPUT}
        self._quantizers: dict[str, ActivationQuantizer] = {entry.name: self._input}
        self._layers: dict[str, QuantizedLayer] = {}
        #: Of values whose codes a concatenation copies side by side, the one whose quantizer all have.
        self._joined = self._first_of_joined()

    def run(self) -> QuantizedNetwork:
        for node in self._graph:
            self._restore(node)
        (channels, rows, columns) = self._graph.inputs[0].shape
        return QuantizedNetwork(
            self._steps,
            self._input,
            (channels, rows, columns),
            self._config,
            self._graph.preprocessing,
            self._graph.class_names,
        )

    @singledispatchmethod
    def _restore(self, node: Node) -> None:
        raise QuantizeError(f"{node.name}: {node.op} cannot be restored")

    @_restore.register(Conv2d)
    @_restore.register(Linear)
    def _(self, node: Conv2d | Linear) -> None:
        source = node.inputs[0]
        if self._copy(node) is not None:
            return
        codes = node.weight.numpy().astype(np.float64)
        unit = self._unit(node)
        step = unit / self._scale(source)
        narrow = codes.min() >= -node.weight.dtype.maximum
        quantizer = WeightQuantizer(len(codes), node.weight.dtype.bits, self._method, narrow=bool(narrow))
        with torch.no_grad():
            quantizer.scale.copy_(torch.from_numpy(step))
        # In the steps and units that float32 holds, so that rounding finds the same codes again.
        weight = torch.from_numpy(codes) * quantizer.scale.detach().double().reshape(-1, *[1] * (codes.ndim - 1))
        kept = quantizer.scale.detach().double() * self._quantizers[source].step().detach().double()
        bias = None if node.bias is None else (torch.from_numpy(node.bias.numpy().astype(np.float64)) * kept).float()
        reads = self._quantizers[source]
        layer: QuantizedLayer
        if isinstance(node, Conv2d):
            layer = QuantizedConv2d(
                node.name,
                weight.float(),
                bias,
                quantizer,
                reads,
                stride=node.stride,
                padding=node.padding,
                dilation=node.dilation,
                groups=node.groups,
            )
        else:
            layer = QuantizedLinear(node.name, weight.float(), bias, quantizer, reads)
        self._layers[node.name] = layer
        self._config.layers[node.name] = LayerConfig(weight_bits=node.weight.dtype.bits)
        self._append(node, layer, source)

    @_restore.register
    def _(self, node: ReLU) -> None:
        if node.maximum is not None and node.maximum < self._graph.values[node.inputs[0]].magnitude:
            raise QuantizeError(f"{node.name}: a ReLU that clips sums cannot be restored; let its Quantize clip")
        self._append(node, operations.ReLU(), node.inputs[0])
        self._inherit(node)

    @_restore.register
    def _(self, node: Add) -> None:
        main, shortcut, rescaling = self._operands(node)
        unit = self._sum_unit(main)
        step = self._scale(rescaling.inputs[0])
        ratio = _multiplier(rescaling) * unit / step
        plain = bool(np.all(np.abs(ratio - 1) < 1e-6))
        module = operations.Add(
            self._layers.get(main),
            None if plain else torch.from_numpy(ratio).float(),
            rescaling.shift,
            shortcut,
        )
        left = main if main in self._made else self._nodes[main].inputs[0]
        self._append(node, module, left, rescaling.inputs[0])
        self._inherit(node, main)

    @_restore.register
    def _(self, node: Quantize) -> None:
        if node.output_type in SUMS:
            return
        source = node.inputs[0]
        if self._graph.values[source].dtype in ACTIVATIONS:
            raise QuantizeError(
                f"{node.name}: a Quantize from {node.input_type} to {node.output_type} has no counterpart"
            )
        copied = self._nodes.get(source)
        if isinstance(copied, Conv2d) and (copy := self._copy(copied)) is not None:
            self._quantizers[node.name] = self._quantizers[copied.inputs[0]]
            self._append(node, copy, copied.inputs[0])
            return
        first = self._joined.get(node.name, node.name)
        if first not in self._quantizers:
            quantizer = ActivationQuantizer(node.name, node.output_type, self._method)
            quantizer.set_range(self._scale(node.name) * node.output_type.maximum)
            quantizer.shift = node.shift
            self._config.activations[node.name] = ActivationConfig(dtype=node.output_type, shift=node.shift)
            self._quantizers[first] = quantizer
        quantizer = self._quantizers[node.name] = self._quantizers[first]
        if quantizer.shift != node.shift and first in self._config.activations:
            # One quantizer has one shift; where the graph has several, conversion chooses.
            quantizer.shift = self._config.activations[first].shift = None
        self._append(node, quantizer, source)

    @_restore.register
    def _(self, node: Concat) -> None:
        self._quantizers[node.name] = self._quantizers[node.inputs[0]]
        self._append(node, operations.Concat(), *node.inputs)

    @_restore.register
    def _(self, node: MaxPool2d) -> None:
        self._quantizers[node.name] = self._quantizers[node.inputs[0]]
        pool = operations.MaxPool2d(node.kernel_size, node.stride, node.padding, node.dilation, node.ceil_mode)
        self._append(node, pool, node.inputs[0])

    @_restore.register
    def _(self, node: AvgPool2d) -> None:
        quantizer = self._quantizers[node.name] = self._quantizers[node.inputs[0]]
        pool = operations.AvgPool2d(
            quantizer, node.kernel_size, node.stride, node.padding, node.ceil_mode, node.count_include_pad
        )
        self._append(node, pool, node.inputs[0])

    @_restore.register
    def _(self, node: Scale) -> None:
        if node.name != self._graph.outputs[0]:
            raise QuantizeError(f"{node.name}: a Scale that is not the output cannot be restored")

    def _append(self, node: Node, module: torch.nn.Module, *sources: str) -> None:
        self._steps.append(Step(node.name, tuple(self._made[source] for source in sources), module))
        self._made[node.name] = node.name

    def _inherit(self, node: Node, source: str | None = None) -> None:
        """Let a value's sums have the units of the layer that made them."""
        layer = self._layers.get(source or node.inputs[0])
        if layer is not None:
            self._layers[node.name] = layer

    # What the integers stand for

    def _scale(self, name: str) -> float:
        """The step of a value's codes."""
        name = self._joined.get(name, name)
        if name not in self._scales:
            node = self._nodes[name]
            if not isinstance(node, Quantize):
                self._scales[name] = self._scale(node.inputs[0])
            elif self._is_copied(node):
                self._scales[name] = self._scale(self._nodes[node.inputs[0]].inputs[0])
            else:
                # float32, as the quantizer will hold it.
                self._scales[name] = float(np.float32(self._chosen_scale(node)))
        return self._scales[name]

    def _chosen_scale(self, node: Quantize) -> float:
        for reader in self._consumers[node.name]:
            if not isinstance(reader, Quantize) or reader.output_type not in SUMS:
                break
        else:
            # Only additions read it: a projection shortcut, in the units of the sums that take it in.
            if self._consumers[node.name]:
                rescaling = self._consumers[node.name][0]
                addition = self._consumers[rescaling.name][0]
                if isinstance(rescaling, Quantize) and isinstance(addition, Add):
                    main, _, taken = self._operands(addition)
                    if taken.name == rescaling.name:
                        return _median(_multiplier(rescaling) * self._sum_unit(main))
        source = self._nodes[node.inputs[0]]
        while isinstance(source, ReLU):
            source = self._nodes[source.inputs[0]]
        if isinstance(source, Add):
            main, _, rescaling = self._operands(source)
            shortcut = rescaling.inputs[0]
            if self._is_rescaled(main):
                return float(self._sum_unit(main)[0]) * ADDED_UNITS
            if not self._is_projection(shortcut):
                # The addition ties both scales together.
                return self._scale(shortcut) / _median(_multiplier(node) * _multiplier(rescaling))
            source = self._layer_of(main)
        if not isinstance(source, Conv2d | Linear):
            raise QuantizeError(f"{node.name}: reads {source.op}, where it needs a layer's sums")
        weight = source.weight.numpy().astype(np.float64)
        scaled = weight * _multiplier(node).reshape(-1, *[1] * (weight.ndim - 1))
        size = math.sqrt(float(np.mean(scaled**2))) or 1.0
        return math.sqrt(2.0 / weight[0].size) * self._scale(source.inputs[0]) / size

    def _unit(self, node: Conv2d | Linear) -> Array:
        """(K,): what a unit of a layer's sums stands for."""
        if node.name not in self._units:
            self._units[node.name] = self._read_unit(node)
        return self._units[node.name]

    def _read_unit(self, node: Conv2d | Linear) -> Array:
        name = node.name
        while name not in self._graph.outputs:
            reader = self._consumers[name][0]
            if isinstance(reader, Quantize):
                return _multiplier(reader) * self._scale(reader.name)
            if isinstance(reader, Scale):
                units: Array = 1.0 / reader.out_scale.numpy().astype(np.float64)
                if np.any(units < 0):
                    raise QuantizeError(f"{reader.name}: a negative out_scale cannot be restored")
                return units
            if not isinstance(reader, Add | ReLU):
                break
            name = reader.name
        weight = node.weight.numpy().astype(np.float64)
        size = math.sqrt(float(np.mean(weight**2))) or 1.0
        return np.full(len(weight), math.sqrt(2.0 / weight[0].size) / size * self._scale(node.inputs[0]))

    def _sum_unit(self, name: str) -> Array:
        """(K,): of the first operand of an addition."""
        if self._is_rescaled(name):
            node = self._nodes[name]
            if isinstance(node, Quantize):
                return self._scale(node.inputs[0]) / _multiplier(node)
        return self._unit(self._layer_of(name))

    def _layer_of(self, name: str) -> Conv2d | Linear:
        node = self._nodes[name]
        while isinstance(node, ReLU | Add):
            node = self._nodes[self._operands(node)[0] if isinstance(node, Add) else node.inputs[0]]
        if not isinstance(node, Conv2d | Linear):
            raise QuantizeError(f"{name}: is no layer's sum")
        return node

    def _operands(self, node: Add) -> tuple[str, str, Quantize]:
        """The value whose units the sum has, the other, and the other's rescaling."""
        left, right = node.inputs
        for main, other in ((left, right), (right, left)):
            rescaling = self._nodes.get(other)
            is_free = not self._is_rescaled(main) or self._is_rescaled(left) == self._is_rescaled(right)
            if isinstance(rescaling, Quantize) and self._is_rescaled(other) and is_free:
                return main, other, rescaling
        raise QuantizeError(f"{node.name}: adds two layers' sums, whose units cannot be told apart")

    def _is_rescaled(self, name: str) -> bool:
        node = self._nodes.get(name)
        return isinstance(node, Quantize) and node.output_type in SUMS

    def _is_projection(self, name: str) -> bool:
        node = self._nodes.get(name)
        return isinstance(node, Quantize) and all(self._is_rescaled(reader.name) for reader in self._consumers[name])

    # Convolutions that copy

    def _copy(self, node: Conv2d | Linear) -> operations.Pad | None:
        """The padding that a convolution stands for whose sums are taken over as codes."""
        readers = self._consumers[node.name]
        if not isinstance(node, Conv2d) or node.bias is not None or node.kernel_size != (1, 1) or len(readers) != 1:
            return None
        (reader,) = readers
        weight = node.weight.numpy()[:, :, 0, 0]
        whole = isinstance(reader, Quantize) and reader.shift == 0 and reader.output_type is node.input_type
        if not whole or not isinstance(reader, Quantize) or np.any(reader.factor.numpy() != 1):
            return None
        if node.groups > 1:
            same = weight.shape[1] == 1 and len(weight) == node.groups and bool(np.all(weight == 1))
            return operations.Pad(node.stride, node.padding, (0, 0)) if same else None
        channels = weight.shape[1]
        before = int(np.argmax(weight.any(axis=1)))
        after = len(weight) - channels - before
        if after < 0 or not np.array_equal(weight, np.eye(len(weight), channels, -before, dtype=weight.dtype)):
            return None
        return operations.Pad(node.stride, node.padding, (before, after))

    def _first_of_joined(self) -> dict[str, str]:
        def origin(name: str) -> str:
            node = self._nodes.get(name)
            if isinstance(node, MaxPool2d | AvgPool2d):
                return origin(node.inputs[0])
            if isinstance(node, Quantize) and self._is_copied(node):
                return origin(self._nodes[node.inputs[0]].inputs[0])
            return name

        order = [entry.name for entry in self._graph.inputs] + list(self._nodes)
        found: dict[str, str] = {}
        nodes = ((node.name, node.inputs) for node in self._graph if isinstance(node, Concat))
        for names in joined_groups(nodes, origin):
            first, *others = sorted(names, key=order.index)
            found.update(dict.fromkeys(others, first))
        return found

    def _is_copied(self, node: Quantize) -> bool:
        source = self._nodes.get(node.inputs[0])
        return isinstance(source, Conv2d) and self._copy(source) is not None


def _multiplier(node: Quantize) -> Array:
    """(K,) float64: factors over the shift's power; silent channels get one that rounds to a factor of 0."""
    values: Array = node.factor.numpy().astype(np.float64) / 2.0**node.shift
    if node.output_type in ACTIVATIONS:
        values = np.where(values > 0, values, _SILENT * 2.0 ** (16 - node.shift))
    return values


def _median(values: Array) -> float:
    alive = values[values > 0]
    return float(np.median(alive)) if len(alive) else 1.0
