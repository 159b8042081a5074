"""Replaces operations that are defined in terms of others by these."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nybble.graph.errors import GraphError
from nybble.graph.graph import Graph
from nybble.graph.nodes import Node
from nybble.graph.ops.base import Operation
from nybble.graph.ops.registry import operation_of


def _none(operation: Operation[Any]) -> bool:
    return False


def expand(graph: Graph, keep: Callable[[Operation[Any]], bool] = _none) -> Graph:
    """A graph with the same results, in which nodes of composite operations are replaced by the nodes they consist of.

    Parameters
    ----------
    graph : Graph
    keep : callable, optional
        Whether the nodes of an operation are kept; by default none are.

    Returns
    -------
    Graph
        The nodes that replace one are named after it; the last one has its name. The same object if nothing is
        replaced.

    Raises
    ------
    GraphError
        If the nodes that an operation gives in place of a node do not form a valid graph.
    """
    nodes: list[Node] = []
    changed = False
    for node in graph:
        operation = operation_of(node)
        types = [graph.values[name] for name in node.inputs]
        parts = None if operation is None or keep(operation) else operation.expanded(node, types)
        nodes.extend([node] if parts is None else parts)
        changed = changed or parts is not None
    if not changed:
        return graph
    expanded = Graph(
        graph.inputs,
        nodes,
        graph.outputs,
        preprocessing=graph.preprocessing,
        class_names=graph.class_names,
        task=graph.task,
    )
    for node in graph:
        said, found = graph.values[node.name], expanded.values.get(node.name)
        if found is None or (found.dtype, found.shape) != (said.dtype, said.shape):
            raise GraphError(f"the expansion of {node.op} gives {found}, not {said}", node=node.name)
    return expanded
