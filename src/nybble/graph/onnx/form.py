"""The base of all forms of ONNX model: each node of a graph is written by its operation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike

from nybble.graph.errors import GraphError
from nybble.graph.expansion import expand
from nybble.graph.graph import Graph
from nybble.graph.nodes import Node
from nybble.graph.onnx.errors import OnnxExportError
from nybble.graph.onnx.writer import Writer
from nybble.graph.ops.base import Operation
from nybble.graph.ops.registry import operation_of
from nybble.graph.types import Array
from nybble.graph.value_type import ValueType


class GraphForm:
    """A model under construction; see :class:`nybble.graph.ops.forms.Form`."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.writer = Writer()

    @property
    def values(self) -> Mapping[str, ValueType]:
        """Type, shape and largest magnitude of each graph value."""
        return self.graph.values

    def node(
        self, op: str, inputs: Sequence[str], output: str, *, name: str | None = None, **attributes: object
    ) -> str:
        """Append an ONNX node; see :meth:`Writer.node`."""
        return self.writer.node(op, inputs, output, name=name, **attributes)

    def constant(self, label: str, values: ArrayLike, dtype: type[Any] = np.float32) -> str:
        """Add a constant; see :meth:`Writer.constant`."""
        return self.writer.constant(label, values, dtype)

    def channels(self, label: str, values: Array, like: str, dtype: type[Any] = np.float32) -> str:
        """Add a constant of one number per channel, of a shape that broadcasts to the graph value ``like``."""
        spatial = len(self.values[like].shape) - 1
        return self.writer.constant(label, values.reshape(-1, *([1] * spatial)), dtype)

    def cast(self, source: str, dtype: type[Any], label: str, *, name: str | None = None) -> str:
        """The same numbers in another element type. Returns the label."""
        kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self.writer.node("Cast", [source], label, name=name, to=kind)


def writable(graph: Graph, form: str) -> Graph:
    """The graph, with what an operation expands to in place of nodes that it cannot write in a form as they are."""
    return expand(graph, lambda entry: entry.has_form(form))


def operation(node: Node) -> Operation[Any]:
    """The operation of a node. Raises OnnxExportError where there is none."""
    found = operation_of(node)
    if found is None:
        raise OnnxExportError(f"no ONNX form is defined for {node.op}", node=node.name)
    return found


def refusal(error: GraphError) -> OnnxExportError:
    """Turns an operation's refusal to write a node into an error of the export."""
    return OnnxExportError(error.message, node=error.node)
