"""A graph as ONNX with QuantizeLinear and DequantizeLinear around float operators: 4 bits, 8 bits and mixtures.

Activations and sums are whole numbers in float32: DequantizeLinear has scale 1 for activations, weights and biases, so
that sums are exact as long as no partial sum passes 2**24. A requantization is a ``Mul`` by one number per channel and
a QuantizeLinear of scale 1; :mod:`nybble.graph.onnx.multiplier` chooses the number such that the rounding is nybble's.
Only the input's QuantizeLinear has the scale of a normalised photo.

A layer of eight bits on both sides whose sums are requantized at once has that number as the scale of its weights
instead: runtimes run it in integers then, and round the same product.

u7, for which ONNX has no type, is UINT8 with a Clip of the integers at 127; so are four bits where ONNX Runtime lacks
the operator, with a Clip at their own bounds. All zero points are 0.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import TensorProto

from nybble.graph.graph import Graph
from nybble.graph.nodes import Node
from nybble.graph.onnx.float_form import photo_unit
from nybble.graph.onnx.form import operation, writable
from nybble.graph.onnx.multiplier import AWAY, by_sign, into_sum, merged, requantizing
from nybble.graph.onnx.real import RealGraphForm
from nybble.graph.ops.prelu import below_label, sloped_label
from nybble.graph.ops.questions import requantization, unit_of, weighted
from nybble.graph.ops.registry import operation_of
from nybble.graph.ops.roles import Requantization, Weighted
from nybble.graph.ops.units import Unit
from nybble.graph.tensor import Tensor
from nybble.graph.types import ACTIVATIONS, Array, DType

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
    return _QdqForm(writable(graph, "qdq")).model(metadata)


class _QdqForm(RealGraphForm):
    opset = 21
    ir_version = 10

    def __init__(self, graph: Graph) -> None:
        self._readers = graph.consumers()
        quantizes = [rule for node in graph if (rule := requantization(node)) is not None]
        #: Scales of weights that take a requantization in, by the name of the Quantize.
        self._merged: dict[str, Array] = {}
        units = {name: np.ones(value.shape[0]) for name, value in graph.values.items()}
        for node in quantizes:
            sums = self._merging(graph, node)
            scales = merged(node, graph.values[node.inputs[0]].magnitude) if sums else None
            if scales is not None:
                self._merged[node.name] = scales
                units.update(dict.fromkeys(sums, scales.astype(np.float64)))
        self._multipliers = {node.name: _multiplier(graph, node) for node in quantizes if node.name not in self._merged}
        super().__init__(graph, units)
        self._input_unit = photo_unit(graph)
        self._widened = _widened(graph)

    def _merging(self, graph: Graph, node: Requantization) -> list[str]:
        """The sums from a layer to a requantization that can go into its weights, if there are such.

        Both sides have eight bits and one type in ONNX Runtime, as its QLinearConv needs.
        """
        sums = self._sums_before(graph, node.inputs[0])
        layer = weighted(graph[sums[-1]]) if sums else None
        if layer is None or layer.weight.dtype is not DType.S8:
            return []
        reads = layer.inputs[0]
        is_wide = node.output_type in ACTIVATIONS and min(node.output_type.bits, graph.values[reads].dtype.bits) > 4
        return sums if is_wide and self._runs_signed(graph, reads) == self._runs_signed(graph, node.name) else []

    def _sums_before(self, graph: Graph, name: str) -> list[str]:
        """A sum and those before it, back through ReLUs and the like to a layer, if nothing else reads them."""
        names = [name]
        while all(entry.name != names[-1] for entry in graph.inputs):
            made = graph[names[-1]]
            if len(self._readers[made.name]) != 1 or made.name in graph.outputs:
                break
            if weighted(made) is not None:
                return names
            operation = operation_of(made)
            if operation is None or not operation.is_homogeneous(made):
                break
            names.append(made.inputs[0])
        return []

    def _runs_signed(self, graph: Graph, name: str) -> bool:
        """Whether ONNX Runtime keeps an activation signed: on x86 it makes those that one node reads unsigned."""
        return graph.values[name].dtype.is_signed and (len(self._readers[name]) != 1 or name in graph.outputs)

    # What a form decides

    def _enter(self, name: str) -> None:
        self._renamed[name] = self._stored(name, name, f"{name}/stored", scale=self._input_unit)

    def _write(self, node: Node) -> None:
        operation(node).write_qdq(node, self)

    def weights(self, node: Weighted, *, groups: int = 1, transpose: bool = False) -> list[str]:
        unit = self.units[node.name]
        inputs = [self._constant(f"{node.name}/weight", node.weight, unit)]
        if node.bias is not None:
            wide = Tensor.from_array(DType.S32, node.bias.numpy())
            inputs.append(self._constant(f"{node.name}/bias", wide, unit))
        return inputs

    def _constant(self, label: str, tensor: Tensor, scale: Array) -> str:
        """Integers with a scale for each output channel."""
        stored = self.writer.tensor(f"{label}/stored", tensor)
        scales = self.constant(f"{label}/scale", scale)
        return self.node("DequantizeLinear", [stored, scales], label, axis=0)

    def relu(self, name: str, source: str, maximum: int | None) -> None:
        if maximum is None:
            self.node("Relu", [source], name)
        elif any(self._rounds_to_four_bits(reader) for reader in self._readers[name]):
            raised = self.node("Relu", [source], f"{name}/raised")
            self.node("Min", [raised, self.constant(f"{name}/high", float(maximum))], name)
        else:
            whole = np.ones(1)
            self.clip(source, 0 * whole, maximum * whole, name)

    def _rounds_to_four_bits(self, node: Node) -> bool:
        """Whether a QuantizeLinear to four bits follows as soon as ONNX Runtime has left out a product with 1.

        It fails on a Clip before such a one (``clip_quantizelinear.cc`` of 1.32 knows types of eight bits only).
        """
        rule = requantization(node)
        if rule is None or node.name not in self._multipliers or not np.all(self._multipliers[node.name] == 1):
            return False
        return rule.output_type in ACTIVATIONS and self._held(node.name, rule.output_type).bits == 4

    def requantize(self, node: Requantization) -> None:
        source = self.source(node.inputs[0])
        if node.output_type not in ACTIVATIONS:
            self._into_sum(node, source)
        elif node.name in self._merged:
            self._stored(node.name, source, node.name, scale=AWAY)
        else:
            self._stored(node.name, self._multiplied(node, source, f"{node.name}/multiplied"), node.name)

    def requantize_by_sign(self, name: str, source: str, factor: Array, negative_factor: Array, shift: int) -> None:
        values = self.graph.values
        above, slope = by_sign(factor, negative_factor, shift, values[name].dtype, values[source].magnitude)
        wide, label = self.source(source), f"{name}/value"
        is_double = above.dtype == np.float64
        if is_double:
            wide = self.node("Cast", [wide], f"{name}/wide", to=TensorProto.DOUBLE)
        kind = above.dtype.type
        product = self.node("Mul", [wide, self.channels(f"{name}/multiplier", above, name, kind)], f"{name}/product")
        slopes = self.channels(f"{name}/slope", slope, name, kind)
        if is_double:
            # ONNX Runtime has PRelu in float32 only, and the way to float32 would round too.
            below = self.node("Less", [product, self.constant(f"{name}/nothing", 0.0, kind)], below_label(name))
            sloped = self.node("Mul", [product, slopes], sloped_label(name))
            value = self.node("Where", [below, sloped, product], f"{name}/chosen", name=name)
            value = self.node("Round", [value], f"{name}/whole")
            self.node("Cast", [value], label, to=TensorProto.FLOAT)
        else:
            self.node("PRelu", [product, slopes], label, name=name)
        self._stored(name, label, name, f"{name}/quantize")

    def _into_sum(self, node: Requantization, source: str) -> None:
        multiplier = self._multipliers[node.name]
        if node.output_type is DType.U31 and self.graph.values[node.inputs[0]].dtype.is_signed:
            source = self.node("Relu", [source], f"{node.name}/raised")
        if node.shift == 0 and np.all(multiplier == 1):
            # A node of its own keeps the name and the place.
            self.node("Identity", [source], node.name)
        elif multiplier.dtype == np.float32:
            product = self._multiplied(node, source, f"{node.name}/multiplied")
            self.node("Round", [product], node.name)
        else:
            self._rounded_wide(node, source, node.name, node.name)

    def _multiplied(self, node: Requantization, source: str, label: str) -> str:
        """The product that a rounding follows; in float64 rounded here, as the way back to float32 would round too."""
        multiplier = self._multipliers[node.name]
        if multiplier.dtype == np.float32:
            factors = self.channels(f"{node.name}/multiplier", multiplier, node.name)
            return self.node("Mul", [source, factors], label)
        return self._rounded_wide(node, source, label, f"{node.name}/whole")

    def _rounded_wide(self, node: Requantization, source: str, output: str, name: str) -> str:
        """The rounded product of float64; ``name`` is what the rounding is called."""
        factors = self.channels(f"{node.name}/multiplier", self._multipliers[node.name], node.name, np.float64)
        wide = self.node("Cast", [source], f"{node.name}/wide", to=TensorProto.DOUBLE)
        wide = self.node("Mul", [wide, factors], f"{node.name}/product")
        wide = self.node("Round", [wide], f"{node.name}/rounded", name=name)
        return self.node("Cast", [wide], output, name=f"{node.name}/narrow", to=TensorProto.FLOAT)

    def store(self, name: str, source: str, *, upward: float = 0.0) -> None:
        if upward:
            source = self.node("Add", [source, self.constant(f"{name}/upward", upward)], f"{name}/raised")
        self._stored(name, source, name, f"{name}/quantize")

    def unstored(self, name: str) -> str:
        return f"{name}/pooled"

    def divide(self, name: str, source: str, divisor: Array) -> None:
        scale = self.channels(f"{name}/scale", divisor, name)
        self.node("Div", [self.source(source), scale], name)

    def _stored(self, name: str, source: str, output: str, label: str | None = None, scale: float = 1.0) -> str:
        """QuantizeLinear and DequantizeLinear: real values held in the type of ``name``."""
        dtype = self.graph.values[name].dtype
        held = self._held(name, dtype)
        zero = self.writer.zero(f"{name}/zero", STORAGE[held])
        one = self.constant(f"{name}/unit", 1.0)
        step = one if scale == 1.0 else self.constant(f"{name}/scale", scale)
        stored = self.node("QuantizeLinear", [source, step, zero], f"{name}/quantized", name=label or output)
        if (dtype.minimum, dtype.maximum) != (held.minimum, held.maximum):
            # Of the integers: before QuantizeLinear it would keep runtimes from merging that with the convolution.
            bounds = [
                self.constant(f"{name}/low", dtype.minimum, held.storage.type),
                self.constant(f"{name}/high", dtype.maximum, held.storage.type),
            ]
            stored = self.node("Clip", [stored, *bounds], f"{name}/clipped")
        return self.node("DequantizeLinear", [stored, one, zero], output, name=f"{name}/dequantize")

    def _held(self, name: str, dtype: DType) -> DType:
        """The type that ONNX has for an activation: u7, and four bits that have to be widened, take eight."""
        if dtype is DType.U7 or (dtype is DType.U4 and name in self._widened):
            return DType.U8
        return DType.S8 if dtype is DType.S4 and name in self._widened else dtype


def _multiplier(graph: Graph, node: Requantization) -> Array:
    reads = graph.values[node.inputs[0]]
    if node.output_type in ACTIVATIONS:
        return requantizing(node, reads.magnitude)
    return into_sum(node, reads.magnitude, reads.dtype)


def _widened(graph: Graph) -> set[str]:
    """Four-bit values that need eight bits: ONNX Runtime would run their readers or makers in four, which it cannot."""
    found: set[str] = set()
    for node in graph:
        layer = weighted(node)
        if unit_of(node) is Unit.INPUT:
            found.update((node.name, *node.inputs))
        elif layer is not None and layer.weight.dtype is DType.S8:
            found.add(layer.inputs[0])
    return found
