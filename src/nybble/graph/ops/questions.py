"""Properties of a node, to use instead of tests of its type."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from nybble.graph.nodes import Node
from nybble.graph.ops.registry import operation_of
from nybble.graph.ops.roles import Requantization, Weighted
from nybble.graph.ops.units import Unit


def unit_of(node: Node) -> Unit | None:
    """The meaning of a step of the node's result; ``None`` if unknown."""
    operation = operation_of(node)
    return None if operation is None else operation.unit


def weighted(node: Node | None) -> Weighted | None:
    """The node, if its result is sums of products with constant weights."""
    operation = None if node is None else operation_of(node)
    return None if operation is None else operation.weighted(node)


def requantization(node: Node | None) -> Requantization | None:
    """The node, if its result is a multiple of its input, rounded and clipped."""
    operation = None if node is None else operation_of(node)
    return None if operation is None else operation.requantization(node)


def adds(node: Node) -> bool:
    """Whether the node's result is the sum of its inputs."""
    operation = operation_of(node)
    return operation is not None and operation.adds


def with_attributes(node: Weighted | Requantization, **attributes: object) -> Node:
    """A node with other attributes."""
    made: Node = replace(cast(Any, node), **attributes)
    return made
