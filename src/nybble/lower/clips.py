"""What clips leave of each value, whatever the weights are."""

from __future__ import annotations

from dataclasses import replace

from nybble.graph import Graph
from nybble.graph.ops import operation_of
from nybble.graph.types import SUM_LIMIT


def clips(graph: Graph) -> dict[str, int]:
    """Largest absolute value of each value, by name, as types, tables and the maxima of ReLUs bound it.

    Inference bounds sums by the weights that there are. Here sums of products are as large as 32 bits hold, so that
    what is chosen by these bounds does not depend on weights that happen to be small.
    """
    found = {entry.name: graph.values[entry.name].magnitude for entry in graph.inputs}
    for node in graph:
        operation = operation_of(node)
        if operation is None or operation.weighted(node) is not None:
            bound = SUM_LIMIT
        else:
            known = [graph.values[name] for name in node.inputs]
            sources = [replace(about, magnitude=found[name]) for name, about in zip(node.inputs, known, strict=True)]
            # Inferring reads factors and tables from their files; the graph has the answer where bounds are its own.
            result = graph.values[node.name] if sources == known else operation.infer(node, sources)
            bound = min(result.magnitude, SUM_LIMIT)
        dtype = graph.values[node.name].dtype
        found[node.name] = bound if dtype.is_float else min(bound, dtype.magnitude)
    return found
