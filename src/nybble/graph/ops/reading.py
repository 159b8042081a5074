"""The interface with which an operation reads ONNX nodes. It does not need the package ``onnx``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from nybble.graph.nodes import Node
from nybble.graph.types import Array, DType
from nybble.graph.value_type import ValueType

_Attribute = TypeVar("_Attribute", int, float, bytes, list[int])


@dataclass(frozen=True)
class OnnxValue:
    """Real numbers of an ONNX model: a graph value (an activation or a sum) and the real value of one step.

    Attributes
    ----------
    name : str
        The graph value.
    unit : array
        Real value of one step, float64 (channels), above 0.
    """

    name: str
    unit: Array


class OnnxNode(Protocol):
    """An ONNX node that is being imported. Every method that fails raises an error that names the node."""

    @property
    def name(self) -> str:
        """The name of the node."""
        ...

    @property
    def operator(self) -> str:
        """Its ``op_type``."""
        ...

    @property
    def hint(self) -> Mapping[str, Any]:
        """The hint of the operation on the node of this name from the export (``Operation.onnx_hint``).

        It comes from the file and is not trustworthy.
        """
        ...

    @property
    def behind(self) -> tuple[Array, DType] | None:
        """Scales and type of the QuantizeLinear that is the only reader of the output; ``None`` if there is none."""
        ...

    def attribute(self, name: str, default: _Attribute) -> _Attribute:
        """An attribute of the default's type."""
        ...

    def is_constant(self, index: int) -> bool:
        """Whether an input is a constant; False for an optional one that is absent."""
        ...

    def constant(self, index: int, what: str) -> Array:
        """The values of an input that must be a constant."""
        ...

    def activation(self, index: int) -> OnnxValue:
        """An input that must be an activation: the output of a DequantizeLinear."""
        ...

    def value(self, index: int) -> OnnxValue:
        """An input, which is an activation or a sum."""
        ...

    def sums(self, index: int) -> OnnxValue:
        """An input as a sum; an activation is made one."""
        ...

    def real(self, index: int) -> OnnxValue:
        """An input as real numbers of the graph, f32; sums and activations are scaled."""
        ...

    def inputs(self, most: int | None) -> int:
        """The number of inputs, at most ``most``: constants that follow are attributes."""
        ...

    def type_of(self, value: OnnxValue) -> ValueType:
        """Type, shape and largest magnitude of a graph value."""
        ...

    def rounded(self, what: str, error: float, detail: str) -> None:
        """Report that the node loses up to ``error``, in steps of its result, by rounding."""
        ...

    def free(self, name: str) -> str:
        """A free name for a graph node, made from ``name``."""
        ...

    def add(self, node: Node) -> str:
        """Add a node to the graph; returns its name."""
        ...
