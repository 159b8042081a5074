"""The work of a network, in multiply-accumulates."""

from __future__ import annotations

from nybble.graph.graph import Graph
from nybble.graph.nodes import Node
from nybble.graph.ops import operation_of
from nybble.graph.ops.questions import weighted
from nybble.graph.types import DType

_FOUR_BITS = (DType.U4, DType.S4)


def macs(graph: Graph, node: Node) -> int:
    """Multiply-accumulates of a node for one image, those with padding included."""
    operation = operation_of(node)
    return operation.macs(node, graph.values[node.name]) if operation is not None else 0


def four_bit_share(graph: Graph) -> float:
    """The part of a network's multiply-accumulates whose operands both have 4 bits, 0 to 1."""
    total = four = 0
    for node in graph:
        count = macs(graph, node)
        total += count
        layer = weighted(node)
        if layer is not None and layer.weight.dtype is DType.S4 and layer.input_type in _FOUR_BITS:
            four += count
    return four / total if total else 0.0
