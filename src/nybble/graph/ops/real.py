"""The base of operations on real numbers, which follow the network's integers and run on the host, in NumPy."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from nybble.graph.errors import GraphError
from nybble.graph.folder import ModelFolder
from nybble.graph.layer_output import LayerOutput
from nybble.graph.lines import LayerFile
from nybble.graph.nodes import Node
from nybble.graph.ops.base import Operation
from nybble.graph.ops.forms import ExactForm, Form, RealForm
from nybble.graph.ops.reading import OnnxNode, OnnxValue
from nybble.graph.ops.units import Unit
from nybble.graph.types import Array, DType
from nybble.graph.value_type import ValueType

if TYPE_CHECKING:
    from fractions import Fraction

N = TypeVar("N", bound=Node)

#: Most extents of a real value of one image.
MAX_RANK = 6


def real(*shape: int) -> ValueType:
    """A real value, for examples."""
    return ValueType(DType.F32, shape, 0)


class RealOperation(Operation[N]):
    """Real numbers from real numbers. A node's ``compute_mode`` is ``f32f32``."""

    unit = Unit.REAL
    on_host = True
    format_version = 3
    #: The ONNX operator that a node is written as.
    operator: ClassVar[str]

    @abstractmethod
    def result_shape(self, node: N, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """The shape of the result, from those of what the node reads. Raises GraphError."""

    @abstractmethod
    def attributes(self, node: N) -> Mapping[str, object]:
        """The node's own lines in its layer file."""

    @abstractmethod
    def read_attributes(self, file: LayerFile) -> Mapping[str, Any]:
        """The node's own attributes, from its layer file."""

    @abstractmethod
    def write_onnx(self, node: N, form: Form, sources: list[str], output: str) -> None:
        """Write the ONNX node that computes the same of float32."""

    @abstractmethod
    def attributes_of_onnx(self, node: OnnxNode, shapes: Sequence[tuple[int, ...]]) -> Mapping[str, Any]:
        """The node's own attributes, from the ONNX node that :meth:`write_onnx` wrote."""

    def infer(self, node: N, inputs: Sequence[ValueType]) -> ValueType:
        """The result is real numbers."""
        for name, source in zip(node.inputs, inputs, strict=True):
            if not source.dtype.is_float:
                raise GraphError(
                    f"computes real numbers, but {name} is {source.dtype}; put Scale before it",
                    node=node.name,
                    field="inputs",
                )
        return real(*self.result_shape(node, [source.shape for source in inputs]))

    def read(self, folder: ModelFolder, file: LayerFile, name: str, inputs: tuple[str, ...]) -> N:
        """Read the type twice, and the node's own lines."""
        file.expect("compute_mode", file.mode(2), (DType.F32, DType.F32), "input and output:")
        made: N = self.node(name=name, inputs=inputs, **self.read_attributes(file))
        return made

    def write(self, node: N, output: LayerOutput, sources: Sequence[DType]) -> None:
        """Write the type twice, and the node's own lines."""
        output.text.add("compute_mode", f"{DType.F32}{DType.F32}")
        for key, value in self.attributes(node).items():
            output.text.add(key, value)

    def converted(self, node: N, input_type: DType | None, ratio: Fraction) -> N:
        """The node stays the same."""
        return node

    def real_unit(self, node: N, types: Sequence[ValueType], units: Sequence[Array]) -> Array:
        """Units are 1."""
        return np.ones(self.infer(node, types).shape[0])

    def write_exact(self, node: N, form: ExactForm) -> None:
        """Written by :meth:`write_onnx` in float32, which another runtime may round differently."""
        form.is_float[node.name] = True
        self.write_onnx(node, form, [form.source(name) for name in node.inputs], form.source(node.name))

    def write_real(self, node: N, form: RealForm) -> None:
        """Written by :meth:`write_onnx`."""
        self.write_onnx(node, form, [form.source(name) for name in node.inputs], node.name)

    @property
    def onnx_operators(self) -> tuple[str, ...]:  # type: ignore[override]
        """The one."""
        return (self.operator,)

    def onnx_hint(self, node: N) -> Mapping[str, Any]:
        """Keep that the node runs on the host."""
        return {"host": self.kind}

    def read_onnx(self, node: OnnxNode) -> OnnxValue | None:
        """Reads nodes of files that nybble wrote."""
        if node.hint.get("host") != self.kind:
            return None
        sources = [node.real(index) for index in range(node.inputs(self.most_inputs))]
        types = [node.type_of(source) for source in sources]
        attributes = self.attributes_of_onnx(node, [kind.shape for kind in types])
        name = node.free(node.name)
        made = node.add(self.node(name=name, inputs=tuple(source.name for source in sources), **attributes))
        return OnnxValue(made, np.ones(node.type_of(OnnxValue(made, np.ones(1))).shape[0]))


class AlongAxis(RealOperation[N]):
    """Base of operations whose only attribute is ``axis``, counted without the batch."""

    def attributes(self, node: N) -> Mapping[str, object]:
        """The axis."""
        return {"axis": _axis(node)}

    def read_attributes(self, file: LayerFile) -> Mapping[str, Any]:
        """The axis."""
        return {"axis": file.integer("axis", 0, MAX_RANK - 1)}

    def write_onnx(self, node: N, form: Form, sources: list[str], output: str) -> None:
        """Written as the operator of the same name, whose axis counts the batch."""
        form.node(self.operator, sources, output, name=node.name, axis=_axis(node) + 1)

    def attributes_of_onnx(self, node: OnnxNode, shapes: Sequence[tuple[int, ...]]) -> Mapping[str, Any]:
        """Read the axis."""
        return {"axis": node.attribute("axis", -1) % (len(shapes[0]) + 1) - 1}

    def details(self, node: N) -> Sequence[str]:
        """Show the axis."""
        return (f"axis {_axis(node)}",)


def _axis(node: Node) -> int:
    axis: int = getattr(node, "axis")  # noqa: B009 - each node of such an operation has one.
    return axis
