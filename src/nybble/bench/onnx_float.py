"""A float ONNX model out of an integer graph: the scales multiplied back in, the clipping kept, the rounding dropped.

An integer graph fixes its scales only up to a choice: any activation may be measured in units of any size, as long as
the weights that read it and the weights that write it agree. The export uses this freedom so that almost no
multiplication is left over. It gives every value a *unit*, the real number that one integer step stands for, per
channel; a requantization then changes the unit but not the real value, and all that is left of it is a ``Clip``.

Where a convolution's sum runs into one requantization, the convolution writes straight in units that make the clip a
single number for all channels; its weights carry ``factor / 2**shift``. Where a shortcut enters that sum as it is
stored, the size of the result's unit is chosen so that the shortcut needs no multiplication either, up to the rounding
of its factors.

Two forms are made. The *exact* one keeps everything but the rounding: a ``Mul`` by nearly 1 where a shortcut's rounded
(or, at 65,535, clamped) factors leave a rest, and a clip of its own for each channel where an activation has its own
unit in each channel, as the 8-bit projections of shortcuts do. The *plain* one leaves these two out and is the network
as its author trained it, convolution, ReLU with a maximum, sum: what an engine for float or 8-bit networks expects and
runs fastest.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from nybble.graph import (
    Add,
    AvgPool2d,
    Concat,
    Conv2d,
    Graph,
    Linear,
    MaxPool2d,
    Node,
    Padding,
    Quantize,
    ReLU,
    Scale,
)
from nybble.graph.types import ACTIVATIONS, Array

#: Units that differ by less than this part count as equal: what float32 weights can tell apart, with room.
UNIT_TOLERANCE = 2.0**-20
#: The plain form also drops a multiplication of which half the channels are within this part of 1: the rest of two
#: rounded factors, half a step of a 4-bit activation at most.
PLAIN_TOLERANCE = 2.0**-5
OPSET = 17
IR_VERSION = 9


def float_model(graph: Graph, *, input_unit: Array | float = 1.0, exact: bool = True) -> onnx.ModelProto:
    """Make the float counterpart of an integer graph.

    Parameters
    ----------
    graph : Graph
        With one input.
    input_unit : float or array of shape (channels,), optional
        Real value of one integer step of the input: ``scale_denominator / scale_numerator`` of the preprocessing
        makes a model of normalised photos, 1 one of the integer input itself.
    exact : bool, optional
        Keep the rests of a shortcut's factors and the clips that differ by channel (see the module's text).

    Returns
    -------
    onnx.ModelProto
        Input and outputs float32 with the graph's names and a batch dimension ``N``. An output of an activation type
        is in units of :func:`units`; logits (behind a ``Scale``) are logits.

    Raises
    ------
    ValueError
        If the graph has several inputs, or a pool counts or clips in a way that ONNX cannot express.
    """
    return _Exporter(graph, input_unit, exact).model()


def units(graph: Graph, *, input_unit: Array | float = 1.0) -> dict[str, Array]:
    """The real value of one integer step of each value in :func:`float_model`, float64 (channels), by name."""
    exporter = _Exporter(graph, input_unit, True)
    exporter.model()
    return exporter.unit


def write_float_model(graph: Graph, path: Path, *, exact: bool = True) -> None:
    """Write :func:`float_model` to a file; the input is a normalised photo where the graph knows its preprocessing."""
    known = graph.preprocessing
    input_unit = 1.0 if known is None else known.scale_denominator / known.scale_numerator
    part = path.with_suffix(".part")
    onnx.save(float_model(graph, input_unit=input_unit, exact=exact), str(part))
    part.replace(path)


class _Exporter:
    def __init__(self, graph: Graph, input_unit: Array | float, exact: bool) -> None:
        if len(graph.inputs) != 1:
            raise ValueError(f"the float export takes graphs of one input, not {len(graph.inputs)}")
        self.graph = graph
        self.exact = exact
        self.readers = graph.consumers()
        self.unit: dict[str, Array] = {}
        self.wanted: dict[str, Array] = {}
        self.rename: dict[str, str] = {}
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        entry = graph.inputs[0]
        self.unit[entry.name] = np.broadcast_to(np.asarray(input_unit, dtype=np.float64), entry.shape[:1])
        self._plan()

    def model(self) -> onnx.ModelProto:
        self.nodes.clear()
        self.constants.clear()
        for node in self.graph:
            emit = getattr(self, f"_emit_{node.op.lower()}")
            emit(node)
        for name in self.graph.outputs:
            if self._source(name) != name:
                self._node("Identity", [self._source(name)], name)
        entry = self.graph.inputs[0]
        graph = helper.make_graph(
            self.nodes,
            "nybble_float",
            [helper.make_tensor_value_info(entry.name, TensorProto.FLOAT, ["N", *entry.shape])],
            [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *self.graph.values[name].shape])
                for name in self.graph.outputs
            ],
            self.constants,
        )
        made = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="nybble"
        )
        onnx.checker.check_model(made)
        return made

    # Units

    def _plan(self) -> None:
        """Fix the unit of each value, first to last.

        A sum whose way leads only to one requantization or scale takes the unit that this wants; so the unit of a
        requantized activation must be known before the sums that run into it are written, and it depends only on
        activations that come earlier in the graph.
        """
        for node in self.graph:
            if self._is_detour(node):
                continue
            if isinstance(node, Quantize) and node.output_type in ACTIVATIONS:
                step = node.factor.numpy().astype(np.float64) / 2.0**node.shift
                size = self._size(node, step)
                self.unit[node.name] = np.full(step.shape, size)
                self._want(node.inputs[0], size * step)
            elif isinstance(node, Scale):
                self._want(node.inputs[0], 1.0 / node.out_scale.numpy().reshape(-1).astype(np.float64))
            elif isinstance(node, (MaxPool2d, AvgPool2d)) and node.inputs[0] in self.unit:
                self.unit[node.name] = self.unit[node.inputs[0]]
            elif isinstance(node, Concat) and all(name in self.unit for name in node.inputs):
                self.unit[node.name] = np.concatenate([self.unit[name] for name in node.inputs])
        for node in self.graph:
            if isinstance(node, Quantize) and self._is_detour(node) and node.name not in self.unit:
                self._detour(node, np.ones(node.factor.shape))

    def _is_detour(self, node: Node) -> bool:
        """Whether a sum is made small only to become a sum again: then its unit is free in each channel."""
        if not isinstance(node, Quantize) or node.output_type not in ACTIVATIONS or node.name in self.graph.outputs:
            return False
        readers = self.readers[node.name]
        return len(readers) == 1 and isinstance(readers[0], Quantize) and readers[0].output_type not in ACTIVATIONS

    def _detour(self, node: Quantize, unit: Array) -> None:
        self.unit[node.name] = unit
        self._want(node.inputs[0], unit * (node.factor.numpy() / 2.0**node.shift))

    def _size(self, node: Quantize, step: Array) -> float:
        """The size of the unit of a requantized activation: such that a shortcut in its sum passes unchanged."""
        for leaf in self._leaves(node.inputs[0]):
            if isinstance(leaf, Quantize):
                source = self.unit[leaf.inputs[0]]
                shortcut = leaf.factor.numpy() / 2.0**leaf.shift
                alive = (shortcut > 0) & (step > 0)
                if np.any(alive):
                    # A channel that is never active may have any factor: the median is not moved by a few of them.
                    return float(np.median(source[alive] / (shortcut[alive] * step[alive])))
        return 1.0

    def _leaves(self, name: str) -> list[Node]:
        """What a sum is made of: the convolutions and stored shortcuts that it adds, as far as nobody else reads it."""
        node = next((entry for entry in self.graph if entry.name == name), None)
        if node is None or len(self.readers[name]) != 1 or name in self.graph.outputs:
            return []
        if isinstance(node, (ReLU, Add)):
            return [leaf for source in node.inputs for leaf in self._leaves(source)]
        if isinstance(node, Quantize) and node.inputs[0] not in self.unit:
            return []
        return [node]

    def _want(self, name: str, unit: Array) -> None:
        if len(self.readers[name]) != 1 or name in self.graph.outputs or name == self.graph.inputs[0].name:
            return
        node = self.graph[name]
        if self.graph.values[name].dtype in ACTIVATIONS:
            return
        self.wanted[name] = unit
        if isinstance(node, (ReLU, Add)):
            for source in node.inputs:
                self._want(source, unit)
        elif isinstance(node, Quantize):
            stored = next((entry for entry in self.graph if entry.name == node.inputs[0]), None)
            if isinstance(stored, Quantize) and self._is_detour(stored):
                step = node.factor.numpy() / 2.0**node.shift
                self._detour(stored, unit * step)

    # Emission

    def _emit_conv2d(self, node: Conv2d) -> None:
        source = self._source(node.inputs[0])
        if self._sums_up_images(node):
            pixels = node.kernel_size.rows * node.kernel_size.columns
            self.unit[node.name] = self.unit[node.inputs[0]] / pixels
            self._node("GlobalAveragePool", [source], node.name)
            return
        unit = self.wanted.get(node.name, np.ones(node.out_channels))
        weight = node.weight.numpy().astype(np.float64) * unit[:, None, None, None]
        read = self.unit[node.inputs[0]].reshape(node.groups, 1, -1, 1, 1)
        weight = (weight.reshape(node.groups, -1, *weight.shape[1:]) / read).reshape(weight.shape)
        inputs = [source, self._constant(f"{node.name}.weight", weight)]
        if node.bias is not None:
            inputs.append(self._constant(f"{node.name}.bias", node.bias.numpy() * unit))
        self._node(
            "Conv",
            inputs,
            node.name,
            kernel_shape=list(node.kernel_size),
            strides=list(node.stride),
            pads=list(node.padding),
            dilations=list(node.dilation),
            group=node.groups,
        )
        self.unit[node.name] = unit

    def _sums_up_images(self, node: Conv2d) -> bool:
        """Whether a convolution stands for an average over each channel's image, which nothing rounds."""
        shape = self.graph.values[node.inputs[0]].shape
        alone = node.groups == node.in_channels == node.out_channels and node.bias is None
        return (
            alone and shape[1:] == node.kernel_size and not any(node.padding) and bool(np.all(node.weight.numpy() == 1))
        )

    def _emit_linear(self, node: Linear) -> None:
        name = node.inputs[0]
        source = self._source(name)
        shape = self.graph.values[name].shape
        if len(shape) > 1:
            source = self._node("Flatten", [source], f"{node.name}.flat", axis=1)
        features, channels = node.weight.shape[1], shape[0]
        read = np.repeat(self.unit[name], features // channels)
        unit = self.wanted.get(node.name, np.ones(node.weight.shape[0]))
        weight = node.weight.numpy() * unit[:, None] / read
        bias = node.bias.numpy() if node.bias is not None else np.zeros(len(unit))
        # (in, out), as quantizers expect the constant of a matrix product.
        inputs = [source, self._constant(f"{node.name}.weight", weight.T)]
        inputs.append(self._constant(f"{node.name}.bias", bias * unit))
        self._node("Gemm", inputs, node.name)
        self.unit[node.name] = unit

    def _emit_add(self, node: Add) -> None:
        first, second = node.inputs
        unit = self.wanted.get(node.name, self.unit[first])
        self._node("Add", [self._in_units(first, unit, node), self._in_units(second, unit, node)], node.name)
        self.unit[node.name] = unit

    def _emit_relu(self, node: ReLU) -> None:
        source = node.inputs[0]
        unit = self.unit[source]
        self.unit[node.name] = unit
        if node.maximum is not None:
            self._clip(self._source(source), node.name, np.zeros_like(unit), node.maximum * unit)
        elif self._is_clipped(node.name):
            # The requantization behind it clips at 0 as well: one clip does for both.
            self.rename[node.name] = self._source(source)
        else:
            self._node("Relu", [self._source(source)], node.name)

    def _is_clipped(self, name: str) -> bool:
        readers = self.readers[name]
        return (
            len(readers) == 1
            and name not in self.graph.outputs
            and isinstance(readers[0], Quantize)
            and readers[0].output_type in ACTIVATIONS
            and not readers[0].output_type.is_signed
        )

    def _emit_quantize(self, node: Quantize) -> None:
        source = node.inputs[0]
        step = node.factor.numpy().astype(np.float64) / 2.0**node.shift
        if node.output_type in ACTIVATIONS:
            unit = self.unit[node.name]
            scaled = self._in_units(source, unit * step, node)
            kind = node.output_type
            if kind.is_signed and not self.exact and self._is_detour(node):
                self.rename[node.name] = scaled
                return
            self._clip(scaled, node.name, kind.minimum * unit, kind.maximum * unit)
            return
        # Into a sum: the stored values as they are, in a larger unit. A factor of 0 silences a channel, which only a
        # unit of 0 can say.
        unit = self.unit[source] / np.where(step > 0, step, 1.0)
        self.unit[node.name] = unit
        silenced = (step == 0) & (self.unit[source] != 0)
        if not np.any(silenced):
            self.rename[node.name] = self._source(source)
        else:
            factor = self._channels(f"{node.name}.alive", ~silenced, node.name)
            self._node("Mul", [self._source(source), factor], node.name)

    def _emit_maxpool2d(self, node: MaxPool2d) -> None:
        self.unit[node.name] = self.unit[node.inputs[0]]
        self._node(
            "MaxPool",
            [self._source(node.inputs[0])],
            node.name,
            kernel_shape=list(node.kernel_size),
            strides=list(node.stride),
            pads=list(node.padding),
            dilations=list(node.dilation),
            ceil_mode=int(node.ceil_mode),
        )

    def _emit_avgpool2d(self, node: AvgPool2d) -> None:
        source = node.inputs[0]
        self.unit[node.name] = self.unit[source]
        if self.graph.values[source].shape[1:] == tuple(node.kernel_size) and node.padding == Padding():
            self._node("GlobalAveragePool", [self._source(source)], node.name)
            return
        if node.ceil_mode:
            raise ValueError(
                f"{node.name}: ONNX runtimes disagree about average pools in ceil mode; set ceil_mode=False"
            )
        self._node(
            "AveragePool",
            [self._source(source)],
            node.name,
            kernel_shape=list(node.kernel_size),
            strides=list(node.stride),
            pads=list(node.padding),
            count_include_pad=int(node.count_include_pad),
        )

    def _emit_concat(self, node: Concat) -> None:
        self.unit[node.name] = np.concatenate([self.unit[name] for name in node.inputs])
        self._node("Concat", [self._source(name) for name in node.inputs], node.name, axis=1)

    def _emit_scale(self, node: Scale) -> None:
        unit = 1.0 / node.out_scale.numpy().reshape(-1).astype(np.float64)
        source = self._in_units(node.inputs[0], unit, node)
        self.unit[node.name] = np.ones_like(unit)
        self.rename[node.name] = source

    # Parts

    def _source(self, name: str) -> str:
        """The ONNX value that carries a graph value."""
        return self.rename.get(name, name)

    def _in_units(self, name: str, unit: Array, reader: Node) -> str:
        """A value converted to ``unit``, if it is not in it already."""
        # A factor of 0 makes a unit of 0, in which everything is 0 already.
        ratio = np.divide(unit, self.unit[name], out=np.ones_like(unit), where=self.unit[name] != 0)
        if np.all(np.abs(ratio - 1) <= UNIT_TOLERANCE):
            return self._source(name)
        if not self.exact and np.median(np.abs(ratio - 1)) <= PLAIN_TOLERANCE:
            return self._source(name)
        label = f"{reader.name}.from.{name}"
        return self._node("Mul", [self._source(name), self._channels(f"{label}.ratio", ratio, name)], label)

    def _clip(self, source: str, name: str, low: Array, high: Array) -> None:
        if np.all(low == low[0]) and np.all(high == high[0]):
            bounds = [self._constant(f"{name}.low", low[0]), self._constant(f"{name}.high", high[0])]
            self._node("Clip", [source, *bounds], name)
            return
        raised = self._node("Max", [source, self._channels(f"{name}.low", low, name)], f"{name}.raised")
        self._node("Min", [raised, self._channels(f"{name}.high", high, name)], name)

    def _channels(self, label: str, values: Array, like: str) -> str:
        spatial = len(self.graph.values[like].shape) - 1
        return self._constant(label, values.reshape(-1, *([1] * spatial)))

    def _constant(self, label: str, values: Array) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype=np.float32), label))
        return label

    def _node(self, op: str, inputs: list[str], output: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output
