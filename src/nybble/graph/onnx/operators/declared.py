"""Readers of ONNX operators that operations declare: from an ONNX node to the interface that they know."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import onnx

from nybble.graph.nodes import Node
from nybble.graph.onnx.errors import OnnxImportError
from nybble.graph.onnx.load import attribute, label
from nybble.graph.onnx.operators.importing import Importing
from nybble.graph.onnx.values import Constant, Real
from nybble.graph.ops.base import Operation
from nybble.graph.ops.reading import OnnxValue
from nybble.graph.types import SUMS, Array, DType
from nybble.graph.value_type import ValueType

_Attribute = TypeVar("_Attribute", int, float, bytes, list[int])


def declining(operation: Operation[Any]) -> Callable[[Importing, onnx.NodeProto], Real | None]:
    """The reader that an operation declares."""

    def reader(importer: Importing, node: onnx.NodeProto) -> Real | None:
        given = _Given(importer, node)
        found = operation.read_onnx(given)
        return None if found is None else given.result(found)

    return reader


class _Given:
    """See :class:`nybble.graph.ops.reading.OnnxNode`."""

    def __init__(self, importer: Importing, node: onnx.NodeProto) -> None:
        self._importer, self._node = importer, node
        self._read: list[Real] = []

    @property
    def name(self) -> str:
        return label(self._node)

    @property
    def operator(self) -> str:
        return str(self._node.op_type)

    @property
    def hint(self) -> Mapping[str, Any]:
        return self._importer.build.hint(self.name).other

    @property
    def behind(self) -> tuple[Array, DType] | None:
        quantizers, others = self._importer.behind(self._node)
        if len(quantizers) != 1 or others or quantizers[0].added:
            return None
        return quantizers[0].scales, quantizers[0].dtype

    def attribute(self, name: str, default: _Attribute) -> _Attribute:
        return attribute(self._node, name, default)

    def is_constant(self, index: int) -> bool:
        return self._importer.has(self._node, index) and isinstance(self._importer.value(self._node, index), Constant)

    def constant(self, index: int, what: str) -> Array:
        return self._importer.constant(self._node, index, what).real

    def activation(self, index: int) -> OnnxValue:
        return self._given(self._importer.activation(self._node, index))

    def value(self, index: int) -> OnnxValue:
        return self._given(self._importer.build.settle(self._importer.real(self._node, index), self.name))

    def sums(self, index: int) -> OnnxValue:
        build = self._importer.build
        return self._given(build.lift(build.settle(self._importer.real(self._node, index), self.name)))

    def real(self, index: int) -> OnnxValue:
        build = self._importer.build
        found = self._importer.real(self._node, index)
        if not build.types[found.value].dtype.is_float:
            found = build.scaled(found, f"{self.name}_real_{index}")
        return OnnxValue(found.value, found.unit)

    def inputs(self, most: int | None) -> int:
        return len(self._node.input) if most is None else min(most, len(self._node.input))

    def type_of(self, value: OnnxValue) -> ValueType:
        return self._importer.build.types[value.name]

    def rounded(self, what: str, error: float, detail: str) -> None:
        self._importer.build.rounded(self.name, what, error, detail)

    def free(self, name: str) -> str:
        return self._importer.build.free(name)

    def add(self, node: Node) -> str:
        return self._importer.build.add(node)

    def _given(self, real: Real) -> OnnxValue:
        self._read.append(real)
        return OnnxValue(real.value, real.unit)

    def result(self, value: OnnxValue) -> Real:
        """What the operation gives as a value of the import, its dimensions in the order of what was read."""
        types = self._importer.build.types
        made = types[value.name]
        if not self._read:
            return Real(value.name, value.unit, False)
        orders = {(real.flat, real.layout) for real in self._read}
        keeps_shape = all(types[real.value].shape == made.shape for real in self._read)
        if orders != {(False, None)} and (len(orders) != 1 or not keeps_shape):
            raise OnnxImportError("reads values whose dimensions are flattened or in another order", node=self.name)
        flat, layout = orders.pop()
        return Real(value.name, value.unit, made.dtype in SUMS, flat=flat, layout=layout)
