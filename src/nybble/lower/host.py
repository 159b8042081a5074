"""The part of a network that runs on the host: real numbers behind the integers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nybble.graph import Graph, Node
from nybble.graph.ops import operation_of
from nybble.graph.types import Array


@dataclass(frozen=True)
class Tail:
    """Nodes that compute real numbers from the outputs of the network before them, in NumPy.

    Attributes
    ----------
    graph : Graph
        The whole network.
    nodes : tuple of Node
    """

    graph: Graph
    nodes: tuple[Node, ...] = ()

    def values(self, outputs: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs of each node for a batch, by name."""
        live = dict(outputs)
        for node in self.nodes:
            operation = operation_of(node)
            if operation is None:
                raise AssertionError(node.op)
            types = [self.graph.values[name] for name in node.inputs]
            live[node.name] = operation.compute(node, types, [live[name] for name in node.inputs])
        return {node.name: live[node.name] for node in self.nodes}

    def results(self, outputs: Mapping[str, Array]) -> dict[str, Array]:
        """The network's outputs for a batch, by name, in the graph's order."""
        live = {**outputs, **self.values(outputs)}
        return {name: live[name] for name in self.graph.outputs}


def split_host(graph: Graph) -> tuple[Graph, Tail]:
    """The network that backends run, and what the host computes from its outputs.

    The first one is ``graph`` itself where no node runs on the host.
    """
    tail = [node for node in graph if _is_on_host(node)]
    if not tail:
        return graph, Tail(graph)
    names = {node.name for node in tail}
    wanted: Sequence[str] = [*(name for node in tail for name in node.inputs), *graph.outputs]
    outputs = dict.fromkeys(name for name in wanted if name not in names)
    kept = [node for node in graph if node.name not in names]
    return Graph(graph.inputs, kept, tuple(outputs), preprocessing=graph.preprocessing), Tail(graph, tuple(tail))


def _is_on_host(node: Node) -> bool:
    operation = operation_of(node)
    return operation is not None and operation.on_host
