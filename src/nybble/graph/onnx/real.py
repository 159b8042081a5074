"""The base of the forms with real-valued arithmetic: a graph's values as float32, each in its unit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np
import onnx
from onnx import TensorProto

from nybble.graph.errors import GraphError
from nybble.graph.graph import Graph
from nybble.graph.nodes import Node
from nybble.graph.onnx.form import GraphForm, refusal
from nybble.graph.onnx.writer import value_info
from nybble.graph.ops.roles import Requantization, Weighted
from nybble.graph.types import Array

#: Units that differ by less than this part count as equal: a few times the precision of float32 weights.
UNIT_TOLERANCE = 2.0**-20


class RealGraphForm(GraphForm, ABC):
    """Writes a graph node by node. Subclasses decide how weights and requantizations are written.

    See :class:`nybble.graph.ops.forms.RealForm`.
    """

    opset: int
    ir_version: int
    #: Whether a Gemm's weight is written (in, out), as quantizers of float models expect it, or (out, in).
    transposed = False

    def __init__(self, graph: Graph, units: Mapping[str, Array]) -> None:
        super().__init__(graph)
        #: The real value of one integer step of every value, (channels).
        self.units = units
        self._renamed: dict[str, str] = {}
        self._converted: set[str] = set()

    def model(self, metadata: Mapping[str, str] | None = None) -> onnx.ModelProto:
        """The finished model; its inputs and outputs are float32 and have the graph's names."""
        for entry in self.graph.inputs:
            self._enter(entry.name)
        for node in self.graph:
            try:
                self._write(node)
            except GraphError as error:
                raise refusal(error) from error
        outputs = []
        taken = {entry.name for entry in self.graph.inputs}
        for name in self.graph.outputs:
            # ONNX has no output that is an input.
            label = f"{name}/output" if name in taken else name
            if self.source(name) != label:
                self.writer.node("Identity", [self.source(name)], label)
            outputs.append(value_info(label, TensorProto.FLOAT, self.graph.values[name].shape))
        inputs = [value_info(entry.name, TensorProto.FLOAT, entry.shape) for entry in self.graph.inputs]
        return self.writer.model(inputs, outputs, opset=self.opset, ir_version=self.ir_version, metadata=metadata)

    # What a form decides

    @abstractmethod
    def _enter(self, name: str) -> None:
        """Write the nodes that an input needs before it is read."""

    @abstractmethod
    def _write(self, node: Node) -> None:
        """Have the node's operation write it."""

    @abstractmethod
    def weights(self, node: Weighted, *, groups: int = 1, transpose: bool = False) -> list[str]:
        """The values that carry weight and bias."""

    @abstractmethod
    def requantize(self, node: Requantization) -> None:
        """A requantization, to an activation or into a sum."""

    def requantize_by_sign(self, name: str, source: str, factor: Array, negative_factor: Array, shift: int) -> None:
        """A requantization with other factors below 0: of the QDQ form alone."""
        raise NotImplementedError

    @abstractmethod
    def relu(self, name: str, source: str, maximum: int | None) -> None:
        """A ReLU and its maximum."""

    @abstractmethod
    def divide(self, name: str, source: str, divisor: Array) -> None:
        """The division of a graph value by a real number per channel."""

    def unstored(self, name: str) -> str:
        """What the output of a pool or Concat itself is called, before :meth:`store`."""
        return name

    @abstractmethod
    def store(self, name: str, source: str, *, upward: float = 0.0) -> None:
        """Real numbers become the activation of that name."""

    #: Part of 1 by which a multiplication may differ from none and still be written.
    def _is_negligible(self, ratio: Array) -> bool:
        return bool(np.all(np.abs(ratio - 1) <= UNIT_TOLERANCE))

    # Parts

    def source(self, name: str) -> str:
        """The ONNX value that carries a graph value."""
        return self._renamed.get(name, name)

    def rename(self, name: str, source: str) -> None:
        """Let an ONNX value that is there carry a graph value."""
        self._renamed[name] = source

    def in_units(self, name: str, unit: Array, reader: str) -> str:
        """A value converted to ``unit``, if it is not in it already."""
        ratio = unit / self.units[name]
        if self._is_negligible(ratio):
            return self.source(name)
        label = f"{reader}/from/{name}"
        if label in self._converted:
            return label
        self._converted.add(label)
        return self.node("Mul", [self.source(name), self.channels(f"{label}/ratio", ratio, name)], label)

    def clip(self, source: str, low: Array, high: Array, name: str) -> str:
        """Clip between two bounds a channel: one ``Clip`` where all channels agree."""
        if np.all(low == low[0]) and np.all(high == high[0]):
            bounds = [self.constant(f"{name}/low", low[0]), self.constant(f"{name}/high", high[0])]
            return self.node("Clip", [source, *bounds], name)
        label = f"{name}/raised"
        if np.any(low):
            raised = self.node("Max", [source, self.channels(f"{name}/low", low, name)], label)
        else:
            raised = self.node("Relu", [source], label)
        return self.node("Min", [raised, self.channels(f"{name}/high", high, name)], name)
