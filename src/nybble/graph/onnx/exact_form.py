"""A graph as ONNX whose results are the reference's, bit for bit, on any runtime with IEEE 754 arithmetic.

Integers are carried as float32 wherever no partial sum can pass 2**24, up to which float32 holds every integer: then
products and sums are exact in any order. Requantization is ``Mul``, ``Add``, ``Floor`` and ``Clip`` in float32 where
``output_bits + shift <= 24`` (docs/format.md says why that is exact), signed results by way of ``Abs`` and ``Sign``.
Larger integers are carried as int32, and multiplied and shifted in int64.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from nybble.graph.errors import GraphError
from nybble.graph.graph import Graph
from nybble.graph.onnx.form import GraphForm, operation, refusal, writable
from nybble.graph.onnx.writer import value_info
from nybble.graph.ops.forms import EXACT
from nybble.graph.types import DType

OPSET = 21
IR_VERSION = 10

#: Element types of inputs and outputs, by the graph's types; 4-bit values take a byte.
INTERFACE = {
    DType.U4: TensorProto.UINT8,
    DType.U7: TensorProto.UINT8,
    DType.U8: TensorProto.UINT8,
    DType.S4: TensorProto.INT8,
    DType.S8: TensorProto.INT8,
    DType.U31: TensorProto.INT32,
    DType.S32: TensorProto.INT32,
    DType.F32: TensorProto.FLOAT,
}


@dataclass(frozen=True)
class ExactModel:
    """An exact model, and the nodes that float32 cannot compute, with the reason."""

    model: onnx.ModelProto
    wide: Mapping[str, str]


def exact_model(graph: Graph, metadata: Mapping[str, str] | None = None) -> ExactModel:
    """Make the exact model of a graph.

    Parameters
    ----------
    graph : Graph
    metadata : mapping of str to str, optional

    Returns
    -------
    ExactModel
        Inputs are the graph's integers, int8 or uint8, as :meth:`nybble.graph.Preprocessing.quantize` makes them.
        Outputs have the graph's names; logits are float32, sums int32, activations int8 or uint8.

    Raises
    ------
    OnnxExportError
        Naming a node that cannot be exact.
    """
    form = _ExactForm(writable(graph, "exact"))
    return ExactModel(form.model(metadata), form.wide)


class _ExactForm(GraphForm):
    opset = OPSET

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph)
        #: Whether a value is carried as float32.
        self.is_float: MutableMapping[str, bool] = {}
        self.wide: dict[str, str] = {}
        self._converted: set[str] = set()

    def model(self, metadata: Mapping[str, str] | None) -> onnx.ModelProto:
        inputs, outputs = [], []
        for entry in self.graph.inputs:
            inputs.append(value_info(entry.name, INTERFACE[entry.dtype], entry.shape))
            self.cast(entry.name, np.float32, self.source(entry.name))
            self.is_float[entry.name] = True
        for node in self.graph:
            self.is_float[node.name] = self.values[node.name].magnitude <= EXACT
            try:
                operation(node).write_exact(node, self)
            except GraphError as error:
                raise refusal(error) from error
        taken = {entry.name for entry in self.graph.inputs}
        for name in self.graph.outputs:
            kind = INTERFACE[self.values[name].dtype]
            # ONNX has no output that is an input.
            label = f"{name}/output" if name in taken else name
            self.writer.node("Cast", [self.source(name)], label, to=kind)
            outputs.append(value_info(label, kind, self.values[name].shape))
        return self.writer.model(inputs, outputs, opset=self.opset, ir_version=IR_VERSION, metadata=metadata)

    # What operations write with: see nybble.graph.ops.forms.ExactForm

    def source(self, name: str) -> str:
        return f"{name}/value"

    def converted(self, name: str, dtype: type[Any], reader: str) -> str:
        source = self.source(name)
        if dtype is (np.float32 if self.is_float[name] else np.int32):
            return source
        label = f"{reader}/from/{name}"
        if label not in self._converted:
            self._converted.add(label)
            self.cast(source, dtype, label)
        return label

    def clip(self, source: str, low: int, high: int, dtype: type[Any], label: str) -> str:
        bounds = [self.constant(f"{label}/low", low, dtype), self.constant(f"{label}/high", high, dtype)]
        return self.node("Clip", [source, *bounds], label)

    def report_wide(self, name: str, why: str) -> None:
        self.wide[name] = why
