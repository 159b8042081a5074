"""Functions of real numbers, element by element."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nybble.graph.errors import GraphError
from nybble.graph.lines import LayerFile
from nybble.graph.nodes import Node
from nybble.graph.ops.base import Example
from nybble.graph.ops.forms import Form
from nybble.graph.ops.reading import OnnxNode
from nybble.graph.ops.real import AlongAxis, RealOperation, real
from nybble.graph.ops.registry import register
from nybble.graph.types import Array
from nybble.graph.value_type import ValueType


@dataclass(frozen=True, kw_only=True, eq=False)
class RealSigmoid(Node):
    """``1 / (1 + exp(-x))`` in float32, element by element."""


class RealSigmoidOperation(RealOperation[RealSigmoid]):
    """Sigmoid of real numbers."""

    node = RealSigmoid
    operator = "Sigmoid"

    def result_shape(self, node: RealSigmoid, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """The shape of the input."""
        return shapes[0]

    def compute(self, node: RealSigmoid, types: Sequence[ValueType], values: Sequence[Array]) -> Array:
        """Computes in float32."""
        (source,) = values
        with np.errstate(over="ignore", under="ignore"):
            result: Array = 1 / (1 + np.exp(-source))
        return result

    def attributes(self, node: RealSigmoid) -> Mapping[str, object]:
        """There are none."""
        return {}

    def read_attributes(self, file: LayerFile) -> Mapping[str, Any]:
        """There are none."""
        return {}

    def write_onnx(self, node: RealSigmoid, form: Form, sources: list[str], output: str) -> None:
        """Written as Sigmoid."""
        form.node("Sigmoid", sources, output, name=node.name)

    def attributes_of_onnx(self, node: OnnxNode, shapes: Sequence[tuple[int, ...]]) -> Mapping[str, Any]:
        """There are none."""
        return {}

    def examples(self, random: np.random.Generator) -> Iterator[Example[RealSigmoid]]:
        """Cover images, vectors and matrices."""
        for shape in ((3, 2, 4), (5,), (4, 3)):
            yield Example(RealSigmoid(name="sigmoid", inputs=("x",)), (real(*shape),))


@dataclass(frozen=True, kw_only=True, eq=False)
class RealSoftmax(Node):
    """``exp(x) / sum(exp(x))`` along an axis, which is counted without the batch, in float32."""

    axis: int


class RealSoftmaxOperation(AlongAxis[RealSoftmax]):
    """Softmax of real numbers."""

    node = RealSoftmax
    operator = "Softmax"

    def result_shape(self, node: RealSoftmax, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """The shape of the input, which must have the axis."""
        if not 0 <= node.axis < len(shapes[0]):
            raise GraphError(
                f"axis {node.axis} is not an axis of its input, 0..{len(shapes[0]) - 1}",
                node=node.name,
                field="axis",
            )
        return shapes[0]

    def compute(self, node: RealSoftmax, types: Sequence[ValueType], values: Sequence[Array]) -> Array:
        """Computes in float32, after the largest number has been subtracted."""
        (source,) = values
        axis = node.axis + 1
        with np.errstate(under="ignore"):
            powers = np.exp(source - source.max(axis=axis, keepdims=True))
            result: Array = powers / powers.sum(axis=axis, keepdims=True)
        return result

    def examples(self, random: np.random.Generator) -> Iterator[Example[RealSoftmax]]:
        """Cover every axis of an image and of a vector."""
        for axis in range(3):
            yield Example(RealSoftmax(name="softmax", inputs=("x",), axis=axis), (real(3, 2, 4),))
        yield Example(RealSoftmax(name="softmax", inputs=("x",), axis=0), (real(5),))


register(RealSigmoidOperation())
register(RealSoftmaxOperation())
