"""Operations that move or join real numbers: Transpose, Reshape and Concat of outputs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nybble.graph.errors import GraphError
from nybble.graph.lines import LayerFile, joined
from nybble.graph.nodes import Node
from nybble.graph.ops.base import Example
from nybble.graph.ops.forms import Form
from nybble.graph.ops.reading import OnnxNode
from nybble.graph.ops.real import MAX_RANK, AlongAxis, RealOperation, real
from nybble.graph.ops.registry import register
from nybble.graph.types import Array
from nybble.graph.value_type import MAX_ELEMENTS, ValueType


def _integers(file: LayerFile, key: str, low: int, high: int) -> tuple[int, ...]:
    words = file.words(key)
    if not 1 <= len(words) <= MAX_RANK or not all(word.isdecimal() and len(word) < 10 for word in words):
        raise file.error(f"{key} takes one to {MAX_RANK} numbers", key)
    values = tuple(map(int, words))
    if not all(low <= value <= high for value in values):
        raise file.error(f"{key} must be in {low}..{high}", key)
    return values


@dataclass(frozen=True, kw_only=True, eq=False)
class RealTranspose(Node):
    """Axes in another order, counted without the batch: axis ``i`` of the result is ``order[i]`` of the input."""

    order: tuple[int, ...]


class RealTransposeOperation(RealOperation[RealTranspose]):
    """Transpose of real numbers."""

    node = RealTranspose
    operator = "Transpose"

    def result_shape(self, node: RealTranspose, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """The extents of the input in the new order."""
        if sorted(node.order) != list(range(len(shapes[0]))):
            raise GraphError(f"order {node.order} must name {len(shapes[0])} axes", node=node.name, field="order")
        return tuple(shapes[0][axis] for axis in node.order)

    def compute(self, node: RealTranspose, types: Sequence[ValueType], values: Sequence[Array]) -> Array:
        """Copies numbers."""
        return np.ascontiguousarray(values[0].transpose(0, *(axis + 1 for axis in node.order)))

    def attributes(self, node: RealTranspose) -> Mapping[str, object]:
        """Write the order."""
        return {"order": joined(node.order)}

    def read_attributes(self, file: LayerFile) -> Mapping[str, Any]:
        """Read the order."""
        return {"order": _integers(file, "order", 0, MAX_RANK - 1)}

    def write_onnx(self, node: RealTranspose, form: Form, sources: list[str], output: str) -> None:
        """Written as Transpose; the batch stays first."""
        form.node("Transpose", sources, output, name=node.name, perm=[0, *(axis + 1 for axis in node.order)])

    def attributes_of_onnx(self, node: OnnxNode, shapes: Sequence[tuple[int, ...]]) -> Mapping[str, Any]:
        """Read the order."""
        return {"order": tuple(axis - 1 for axis in node.attribute("perm", [0])[1:])}

    def details(self, node: RealTranspose) -> Sequence[str]:
        """Show the order."""
        return (f"order {','.join(map(str, node.order))}",)

    def examples(self, random: np.random.Generator) -> Iterator[Example[RealTranspose]]:
        """Cover images and matrices."""
        for order in ((1, 2, 0), (2, 0, 1), (0, 2, 1)):
            yield Example(RealTranspose(name="transpose", inputs=("x",), order=order), (real(3, 2, 4),))
        yield Example(RealTranspose(name="transpose", inputs=("x",), order=(1, 0)), (real(3, 2),))


@dataclass(frozen=True, kw_only=True, eq=False)
class RealReshape(Node):
    """The same numbers in the same order in another shape, given without the batch."""

    shape: tuple[int, ...]


class RealReshapeOperation(RealOperation[RealReshape]):
    """Reshape of real numbers."""

    node = RealReshape
    operator = "Reshape"

    def result_shape(self, node: RealReshape, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """The shape of the node, which must have as many elements as the input."""
        if math.prod(node.shape) != math.prod(shapes[0]):
            raise GraphError(f"{shapes[0]} cannot be reshaped to {node.shape}", node=node.name, field="shape")
        return node.shape

    def resized(self, node: RealReshape, before: Sequence[ValueType], after: Sequence[ValueType]) -> RealReshape:
        """Axes that are kept keep their extents, joined axes are joined; splitting a changed axis is refused."""
        old, new = before[0].shape, after[0].shape
        made: list[int] = []
        for sources, results in _segments(old, node.shape):
            changed = [new[axis] for axis in sources]
            if changed == [old[axis] for axis in sources]:
                made += [node.shape[axis] for axis in results]
                continue
            # The axis that holds the elements; others have one.
            wide = [axis for axis in results if node.shape[axis] != 1]
            if len(wide) > 1 or not results:
                raise GraphError(
                    f"reshapes {old} to {node.shape}, which does not determine what {new} becomes", node=node.name
                )
            kept = wide[0] if wide else results[0]
            made += [math.prod(changed) if axis == kept else 1 for axis in results]
        return replace(node, shape=tuple(made))

    def compute(self, node: RealReshape, types: Sequence[ValueType], values: Sequence[Array]) -> Array:
        """Only the shape changes."""
        return values[0].reshape(len(values[0]), *node.shape)

    def attributes(self, node: RealReshape) -> Mapping[str, object]:
        """Write the shape."""
        return {"shape": joined(node.shape)}

    def read_attributes(self, file: LayerFile) -> Mapping[str, Any]:
        """Read the shape."""
        return {"shape": _integers(file, "shape", 1, MAX_ELEMENTS)}

    def write_onnx(self, node: RealReshape, form: Form, sources: list[str], output: str) -> None:
        """Written as Reshape, which keeps the batch."""
        shape = form.constant(f"{node.name}/shape", [0, *node.shape], np.int64)
        form.node("Reshape", [*sources, shape], output, name=node.name)

    def attributes_of_onnx(self, node: OnnxNode, shapes: Sequence[tuple[int, ...]]) -> Mapping[str, Any]:
        """Read the shape."""
        return {"shape": tuple(int(extent) for extent in node.constant(1, "shape").reshape(-1)[1:])}

    def details(self, node: RealReshape) -> Sequence[str]:
        """Show nothing: the type of the result has the shape."""
        return ()

    def examples(self, random: np.random.Generator) -> Iterator[Example[RealReshape]]:
        """Cover joined and parted axes."""
        for shape in ((6, 4), (24,), (3, 2, 2, 2), (4, 3, 2)):
            yield Example(RealReshape(name="reshape", inputs=("x",), shape=shape), (real(3, 2, 4),))


def _segments(old: tuple[int, ...], made: tuple[int, ...]) -> Iterator[tuple[list[int], list[int]]]:
    """The shortest runs of axes of two shapes with the same number of elements, in order."""
    i = j = 0
    while i < len(old) or j < len(made):
        first, second = i, j
        i, j = min(i + 1, len(old)), min(j + 1, len(made))
        while (have := math.prod(old[first:i])) != (want := math.prod(made[second:j])):
            if have < want:
                i += 1
            else:
                j += 1
        # Trailing axes of one element belong to the last run.
        if i == len(old) or j == len(made):
            i, j = (len(old), len(made)) if math.prod(old[i:]) == math.prod(made[j:]) == 1 else (i, j)
        yield list(range(first, i)), list(range(second, j))


@dataclass(frozen=True, kw_only=True, eq=False)
class RealConcat(Node):
    """Real values one after the other along an axis, which is counted without the batch."""

    axis: int


class RealConcatOperation(AlongAxis[RealConcat]):
    """Concatenation of real numbers."""

    node = RealConcat
    operator = "Concat"
    least_inputs = 2
    most_inputs = None

    def result_shape(self, node: RealConcat, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """The extents along the axis add up."""
        first, axis = shapes[0], node.axis
        if not 0 <= axis < len(first):
            raise GraphError(f"axis {axis} is not an axis of its inputs", node=node.name, field="axis")
        rest = (*first[:axis], *first[axis + 1 :])
        if any(len(shape) != len(first) or (*shape[:axis], *shape[axis + 1 :]) != rest for shape in shapes):
            raise GraphError(
                f"joins {shapes[:8]}, which differ in more than axis {axis}", node=node.name, field="inputs"
            )
        return (*first[:axis], sum(shape[axis] for shape in shapes), *first[axis + 1 :])

    def compute(self, node: RealConcat, types: Sequence[ValueType], values: Sequence[Array]) -> Array:
        """Copies numbers."""
        result: Array = np.concatenate(values, axis=node.axis + 1)
        return result

    def examples(self, random: np.random.Generator) -> Iterator[Example[RealConcat]]:
        """Cover two and three values along every axis."""
        node = RealConcat(name="concat", inputs=("x", "y"), axis=0)
        yield Example(node, (real(3, 2, 4), real(1, 2, 4)))
        node = RealConcat(name="concat", inputs=("x", "y", "z"), axis=1)
        yield Example(node, (real(3, 2), real(3, 4), real(3, 1)))


register(RealTransposeOperation())
register(RealReshapeOperation())
register(RealConcatOperation())
