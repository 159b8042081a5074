"""Operations that are said in terms of others, replaced by these."""

from __future__ import annotations

from nybble.graph import Graph, GraphError, Node
from nybble.graph.ops import operation_of


def expand(graph: Graph) -> Graph:
    """A graph of the same results without the nodes whose operation is said in terms of others.

    Nodes that replace one are named after it, the last one as it was. The same object where nothing is replaced.

    Raises
    ------
    GraphError
        If what an operation gives for a node does not fit: it is then no valid graph.
    """
    nodes: list[Node] = []
    changed = False
    for node in graph:
        operation = operation_of(node)
        types = [graph.values[name] for name in node.inputs]
        parts = operation.expanded(node, types) if operation is not None else None
        nodes.extend([node] if parts is None else parts)
        changed = changed or parts is not None
    if not changed:
        return graph
    expanded = Graph(
        graph.inputs, nodes, graph.outputs, preprocessing=graph.preprocessing, class_names=graph.class_names
    )
    for node in graph:
        said, found = graph.values[node.name], expanded.values.get(node.name)
        if found is None or (found.dtype, found.shape) != (said.dtype, said.shape):
            raise GraphError(f"what {node.op} expands to gives {found}, not {said}", node=node.name)
    return expanded
