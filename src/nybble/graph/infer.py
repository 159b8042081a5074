"""Inference of shapes, types and ranges: the result of a node from its inputs, or an error."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nybble.graph.errors import GraphError
from nybble.graph.nodes import Input, Node
from nybble.graph.ops import operation_of
from nybble.graph.types import ACTIVATIONS, SUM_LIMIT
from nybble.graph.value_type import MAX_ELEMENTS, MAX_EXTENT, ValueType


def infer_input(entry: Input) -> ValueType:
    """Type of a graph input. Raises GraphError if it is not an activation type or of an absurd shape."""
    if entry.dtype not in ACTIVATIONS:
        raise GraphError(f"an input cannot be {entry.dtype}", node=entry.name)
    _check_shape(entry.shape, entry.name)
    return ValueType(entry.dtype, entry.shape, entry.dtype.magnitude)


def infer(node: Node, inputs: Sequence[ValueType]) -> ValueType:
    """Type, shape and magnitude of a node's output.

    Raises
    ------
    GraphError
        Naming the node and the attribute that does not fit its inputs, or the sum that could exceed 2**31 - 1: the sum
        of absolute weights times the largest input, plus bias, plus shortcut.
    """
    operation = operation_of(node)
    if operation is None:
        raise GraphError(f"no operation of this name is registered: {node.op}", node=node.name)
    least, most = operation.least_inputs, operation.most_inputs
    if len(inputs) < least or (most is not None and len(inputs) > most):
        wanted = f"{least}" if most == least else f"{least} or more" if most is None else f"{least} to {most}"
        values = "1 value" if wanted == "1" else f"{wanted} values"
        raise GraphError(f"{node.op} reads {values}, not {len(inputs)}", node=node.name, field="inputs")
    result = operation.infer(node, inputs)
    _check_shape(result.shape, node.name, is_real=result.dtype.is_float)
    if not result.dtype.is_float and result.magnitude > SUM_LIMIT:
        raise GraphError(
            f"its worst case reaches {result.magnitude}, beyond the 32-bit limit {SUM_LIMIT}", node=node.name
        )
    return result


def _check_shape(shape: tuple[int, ...], name: str, *, is_real: bool = False) -> None:
    # The real numbers that the host computes may have any shape.
    ranks, said = ((1, 2, 3, 4, 5, 6), "one to six") if is_real else ((1, 3), "one or three")
    most = MAX_ELEMENTS if is_real else MAX_EXTENT
    if len(shape) not in ranks or min(shape) < 1 or max(shape) > most or math.prod(shape) > MAX_ELEMENTS:
        raise GraphError(
            f"shape {shape} is not {said} extents of 1..{most}, {MAX_ELEMENTS} elements at most", node=name
        )
