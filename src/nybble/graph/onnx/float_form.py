"""A float ONNX model out of an integer graph: the scales multiplied back in, the clipping kept, the rounding dropped.

Two forms are made. The full one keeps everything but the rounding: a ``Mul`` by nearly 1 where a shortcut's rounded
(or, at 65,535, clamped) factors leave a rest, and a clip of its own for each channel where an activation has its own
unit in each channel, as the 8-bit projections of shortcuts do. The *plain* one leaves these two out and is the network
as its author trained it, convolution, ReLU with a maximum, sum: what an engine for float or 8-bit networks expects and
runs fastest.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx

from nybble.graph.graph import Graph
from nybble.graph.nodes import Node
from nybble.graph.onnx.errors import OnnxExportError
from nybble.graph.onnx.form import operation, writable
from nybble.graph.onnx.real import RealGraphForm
from nybble.graph.onnx.units import Units, step_of
from nybble.graph.onnx.writer import write_model
from nybble.graph.ops.questions import requantization
from nybble.graph.ops.roles import Requantization, Weighted
from nybble.graph.types import ACTIVATIONS, Array, DType

#: The plain form also drops a multiplication of which half the channels are within this part of 1: the rest of two
#: rounded factors, half a step of a 4-bit activation at most.
PLAIN_TOLERANCE = 2.0**-5


def float_model(
    graph: Graph,
    *,
    input_unit: Array | float = 1.0,
    plain: bool = False,
    metadata: Mapping[str, str] | None = None,
) -> onnx.ModelProto:
    """Make the float counterpart of an integer graph.

    Parameters
    ----------
    graph : Graph
        With one input.
    input_unit : float or array of shape (channels,), optional
        Real value of one integer step of the input: ``scale_denominator / scale_numerator`` of the preprocessing
        makes a model of normalised photos, 1 one of the integer input itself.
    plain : bool, optional
        Drop the rests of a shortcut's factors and the clips that differ by channel (see the module's text).
    metadata : mapping of str to str, optional

    Returns
    -------
    onnx.ModelProto
        Input and outputs float32 with the graph's names and a batch dimension ``N``. An output of an activation type
        is in units of :func:`units`; logits (behind a ``Scale``) are logits.

    Raises
    ------
    OnnxExportError
        If the graph has several inputs, or a pool counts or clips in a way that ONNX cannot express.
    """
    graph = writable(graph, "float")
    return _FloatForm(graph, _units(graph, input_unit), plain).model(metadata)


def units(graph: Graph, *, input_unit: Array | float = 1.0) -> dict[str, Array]:
    """The real value of one integer step of each value in :func:`float_model`, float64 (channels), by name."""
    return _units(writable(graph, "float"), input_unit).of


def write_float_model(graph: Graph, path: Path, *, plain: bool = False) -> None:
    """Write :func:`float_model` to a file; the input is a normalised photo where the graph knows its preprocessing."""
    write_model(float_model(graph, input_unit=photo_unit(graph), plain=plain), path)


def photo_unit(graph: Graph) -> float:
    """What one step of the input is in a normalised photo; 1 where the graph does not know its preprocessing."""
    known = graph.preprocessing
    return 1.0 if known is None else known.scale_denominator / known.scale_numerator


def _units(graph: Graph, input_unit: Array | float) -> Units:
    if len(graph.inputs) != 1:
        raise OnnxExportError(f"the float export takes graphs of one input, not {len(graph.inputs)}")
    entry = graph.inputs[0]
    unit = np.broadcast_to(np.asarray(input_unit, dtype=np.float64), entry.shape[:1])
    return Units(graph, {entry.name: unit})


class _FloatForm(RealGraphForm):
    opset = 17
    ir_version = 9
    transposed = True

    def __init__(self, graph: Graph, units: Units, plain: bool) -> None:
        super().__init__(graph, units.of)
        self._is_detour = units.is_detour
        self._plain = plain
        self._readers = graph.consumers()

    def _is_negligible(self, ratio: Array) -> bool:
        return super()._is_negligible(ratio) or (self._plain and bool(np.median(np.abs(ratio - 1)) <= PLAIN_TOLERANCE))

    def _enter(self, name: str) -> None:
        pass

    def _write(self, node: Node) -> None:
        operation(node).write_float(node, self)

    def weights(self, node: Weighted, *, groups: int = 1, transpose: bool = False) -> list[str]:
        unit, read = self.units[node.name], self.units[node.inputs[0]]
        weight = node.weight.numpy().astype(np.float64)
        # A flattened image repeats each channel's unit for all its pixels.
        read = np.repeat(read, weight.shape[1] * groups // len(read))
        read = read.reshape(groups, 1, -1, *([1] * (weight.ndim - 2)))
        grouped = weight.reshape(groups, -1, *weight.shape[1:]) / read
        scaled = grouped.reshape(weight.shape) * unit.reshape(-1, *([1] * (weight.ndim - 1)))
        inputs = [self.constant(f"{node.name}/weight", scaled.T if transpose else scaled)]
        if node.bias is not None:
            inputs.append(self.constant(f"{node.name}/bias", node.bias.numpy() * unit))
        elif transpose:
            inputs.append(self.constant(f"{node.name}/bias", np.zeros_like(unit)))
        return inputs

    def relu(self, name: str, source: str, maximum: int | None) -> None:
        unit = self.units[name]
        if maximum is not None:
            self.clip(source, np.zeros_like(unit), maximum * unit, name)
        elif self._is_clipped(name):
            # The requantization behind it clips at 0 as well: one clip does for both.
            self.rename(name, source)
        else:
            self.node("Relu", [source], name)

    def _is_clipped(self, name: str) -> bool:
        readers = self._readers[name]
        if len(readers) != 1 or name in self.graph.outputs:
            return False
        rule = requantization(readers[0])
        return rule is not None and rule.output_type in ACTIVATIONS and not rule.output_type.is_signed

    def requantize(self, node: Requantization) -> None:
        source, step = node.inputs[0], step_of(node)
        if node.output_type in ACTIVATIONS:
            self._requantize(node, self.in_units(source, self.units[node.name] * step, node.name))
            return
        # A shortcut: the real value stays, up to a rounded factor.
        ratio = self.units[node.name] * step / self.units[source]
        value = self.source(source)
        if node.output_type is DType.U31 and self.values[source].dtype.is_signed:
            value = self.node("Relu", [value], f"{node.name}/raised")
        if self._is_negligible(ratio):
            self.rename(node.name, value)
        else:
            factors = self.channels(f"{node.name}/ratio", ratio, node.name)
            self.node("Mul", [value, factors], node.name)

    def _requantize(self, node: Requantization, source: str) -> None:
        """From real values, already in the result's unit, to an activation."""
        unit, kind = self.units[node.name], node.output_type
        if kind.is_signed and self._plain and self._is_detour(node.name):
            self.rename(node.name, source)
            return
        self.clip(source, kind.minimum * unit, kind.maximum * unit, node.name)

    def store(self, name: str, source: str, *, upward: float = 0.0) -> None:
        self.rename(name, source)

    def divide(self, name: str, source: str, divisor: Array) -> None:
        # Negative scales differ by a factor of -1.
        self.rename(name, self.in_units(source, 1.0 / divisor.reshape(-1).astype(np.float64), name))
