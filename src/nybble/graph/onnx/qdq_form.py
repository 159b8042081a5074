"""A graph as ONNX with QuantizeLinear and DequantizeLinear around float operators: 4 bits, 8 bits and mixtures.

Activations have scale 1: a weight's scale is then the factor of the requantization behind it divided by 2**shift, which
float32 holds exactly, and an importer finds the factors again. Only the input has the scale of a normalised photo.
u7, for which ONNX has no type, is UINT8 with a Clip of the integers at 127; so are four bits around a max pool or
before 8-bit weights, which ONNX Runtime does not have, with a Clip at their own bounds. All zero points are 0.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import TensorProto

from nybble.graph.convert import has_four_bits
from nybble.graph.graph import Graph
from nybble.graph.nodes import AvgPool2d, Concat, Conv2d, Linear, MaxPool2d, Quantize, ReLU, Scale
from nybble.graph.onnx.float_form import photo_unit
from nybble.graph.onnx.real import RealForm
from nybble.graph.onnx.units import Units
from nybble.graph.tensor import Tensor
from nybble.graph.types import Array, DType

#: QuantizeLinear and Round send halves to the even neighbour. A number larger by this part goes away from zero as in
#: the engine, and next to nothing else changes: what lies below a half by less is rarer than halves by far.
AWAY = 1 + 2.0**-23
#: The ONNX types of activations.
STORAGE = {
    DType.U4: TensorProto.UINT4,
    DType.S4: TensorProto.INT4,
    DType.U7: TensorProto.UINT8,
    DType.U8: TensorProto.UINT8,
    DType.S8: TensorProto.INT8,
}


def qdq_model(graph: Graph, metadata: Mapping[str, str] | None = None) -> onnx.ModelProto:
    """Make the QDQ model of a graph.

    Parameters
    ----------
    graph : Graph
    metadata : mapping of str to str, optional

    Returns
    -------
    onnx.ModelProto
        Opset 21. Inputs and outputs float32 with the graph's names: a normalised photo where the graph knows its
        preprocessing, else the integers; logits, or for outputs of other types the integers.

    Raises
    ------
    OnnxExportError
        Naming a node that ONNX cannot express.
    """
    units = _units(graph, photo_unit(graph))
    if any(np.any(units.of[name] != units.of[name][0]) for name in graph.values if graph.values[name].dtype in STORAGE):
        # The input is concatenated with other values.
        units = _units(graph, 1.0)
    return _QdqForm(graph, units).model(metadata)


def _units(graph: Graph, input_unit: float) -> Units:
    return Units(graph, {entry.name: np.full(entry.shape[0], input_unit) for entry in graph.inputs}, natural=False)


class _QdqForm(RealForm):
    opset = 21
    ir_version = 10

    def __init__(self, graph: Graph, units: Units) -> None:
        super().__init__(graph, units)
        self._entries = {entry.name for entry in graph.inputs}
        self._rounds_shortcuts = has_four_bits(graph)
        #: ONNX Runtime would run these pools in the type they read, and layers with 8-bit weights too: it has neither
        #: for four bits.
        self._widened = {name for node in graph if isinstance(node, MaxPool2d) for name in (node.name, *node.inputs)}
        layers = (node for node in graph if isinstance(node, Conv2d | Linear))
        self._widened |= {node.inputs[0] for node in layers if node.weight.dtype is DType.S8}

    def _enter(self, name: str) -> None:
        self._renamed[name] = self._stored(name, name, f"{name}/stored")

    def _weights(self, node: Conv2d | Linear, transpose: bool) -> list[str]:
        unit = self.units.of[node.name]
        inputs = [self._constant(f"{node.name}/weight", node.weight, unit / self.units.of[node.inputs[0]][0])]
        if node.bias is not None:
            wide = Tensor.from_array(DType.S32, node.bias.numpy())
            inputs.append(self._constant(f"{node.name}/bias", wide, unit))
        return inputs

    def _constant(self, label: str, tensor: Tensor, scale: Array) -> str:
        """Integers with a scale for each output channel."""
        stored = self.writer.tensor(f"{label}/stored", tensor)
        scales = self.writer.constant(f"{label}/scale", scale)
        return self.writer.node("DequantizeLinear", [stored, scales], label, axis=0)

    def _relu(self, node: ReLU) -> None:
        source = self._source(node.inputs[0])
        unit = self.units.of[node.name]
        if node.maximum is None:
            self.writer.node("Relu", [source], node.name)
        else:
            self._clip(source, node.name, np.zeros_like(unit), node.maximum * unit)

    def _requantize(self, node: Quantize, source: str) -> None:
        self._stored(node.name, source, node.name)

    def _store(self, name: str, pooled: str) -> None:
        self._stored(name, pooled, name, f"{name}/quantize")

    def _pooled(self, node: MaxPool2d | AvgPool2d | Concat) -> str:
        return f"{node.name}/pooled"

    def _into_sum(self, node: Quantize, ratio: Array) -> None:
        if node.shift and self._rounds_shortcuts:
            # The sums of four-bit networks are coarse: the half that rounding adds to a shortcut counts.
            step = ratio / self.units.of[node.name] * AWAY
            scaled = self._channels(f"{node.name}/step", step, node.name)
            unit = self.units.of[node.name]
            source = self.writer.node("Mul", [self._source(node.inputs[0]), scaled], f"{node.name}/scaled")
            source = self.writer.node("Round", [source], f"{node.name}/rounded", name=node.name)
            self.writer.node("Mul", [source, self._channels(f"{node.name}/unit", unit, node.name)], node.name)
            return
        super()._into_sum(node, ratio)
        if node.name in self._renamed:
            # A node of its own keeps the name and the place.
            self.writer.node("Identity", [self._renamed.pop(node.name)], node.name)

    def _logits(self, node: Scale) -> None:
        source = self._in_units(node.inputs[0], np.ones(node.out_scale.size), node.name)
        scale = self._channels(f"{node.name}/scale", node.out_scale.numpy(), node.name)
        self.writer.node("Div", [source, scale], node.name)

    def _stored(self, name: str, source: str, output: str, label: str | None = None) -> str:
        """QuantizeLinear and DequantizeLinear: real values held in the type of ``name``."""
        dtype = self.graph.values[name].dtype
        held = self._held(name, dtype)
        unit = self.units.of[name][0]
        scale = self.writer.constant(f"{name}/unit", unit)
        zero = self.writer.zero(f"{name}/zero", STORAGE[held])
        made = self.graph[name] if name not in self._entries else None
        if isinstance(made, Quantize | AvgPool2d):
            rounding = self.writer.constant(f"{name}/rounding", unit / AWAY)
        else:
            rounding = scale
        stored = self.writer.node("QuantizeLinear", [source, rounding, zero], f"{name}/quantized", name=label or output)
        if (dtype.minimum, dtype.maximum) != (held.minimum, held.maximum):
            # Of the integers: before QuantizeLinear it would keep runtimes from merging that with the convolution.
            bounds = [
                self.writer.constant(f"{name}/low", dtype.minimum, held.storage.type),
                self.writer.constant(f"{name}/high", dtype.maximum, held.storage.type),
            ]
            stored = self.writer.node("Clip", [stored, *bounds], f"{name}/clipped")
        return self.writer.node("DequantizeLinear", [stored, scale, zero], output, name=f"{name}/dequantize")

    def _held(self, name: str, dtype: DType) -> DType:
        """The type that ONNX has for an activation: u7, and four bits that have to be widened, take eight."""
        if dtype is DType.U7 or (dtype is DType.U4 and name in self._widened):
            return DType.U8
        return DType.S8 if dtype is DType.S4 and name in self._widened else dtype
