"""Checks of inputs that several operations share."""

from __future__ import annotations

from nybble.graph.errors import GraphError
from nybble.graph.nodes import Node
from nybble.graph.types import DType
from nybble.graph.value_type import ValueType


def check_input_type(node: Node, source: ValueType, declared: DType, allowed: tuple[DType, ...]) -> None:
    """Raise GraphError unless the declared type is allowed and that of the input; s32 may stand for u31."""
    if declared not in allowed:
        raise GraphError(f"{node.op} cannot read {declared}", node=node.name, field="compute_mode")
    if declared is not source.dtype and not (declared is DType.S32 and source.dtype is DType.U31):
        raise GraphError(
            f"is declared to read {declared}, but {node.inputs[0]} is {source.dtype}",
            node=node.name,
            field="compute_mode",
        )


def image_shape(node: Node, source: ValueType) -> tuple[int, int, int]:
    """(channels, rows, columns) of the input. Raises GraphError if it is not an image."""
    if len(source.shape) != 3:
        raise GraphError(f"reads images, but {node.inputs[0]} is {source}", node=node.name, field="inputs")
    channels, rows, columns = source.shape
    return channels, rows, columns
