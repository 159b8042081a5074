"""The largest magnitude that clamps leave of each value, for any weights."""

from __future__ import annotations

from dataclasses import replace

from nybble.graph import Graph
from nybble.graph.ops import operation_of
from nybble.graph.types import SUM_LIMIT


def clips(graph: Graph) -> dict[str, int]:
    """Largest absolute value of each value, by name, as types, tables and the maxima of ReLUs bound it.

    Inference bounds sums by the actual weights. Here sums of products may be as large as 32 bits allow, so that choices
    that follow from these bounds do not depend on weights that happen to be small.
    """
    found = {entry.name: graph.values[entry.name].magnitude for entry in graph.inputs}
    for node in graph:
        operation = operation_of(node)
        if operation is None or operation.weighted(node) is not None:
            bound = SUM_LIMIT
        else:
            known = [graph.values[name] for name in node.inputs]
            sources = [replace(about, magnitude=found[name]) for name, about in zip(node.inputs, known, strict=True)]
            # Inference reads factors and tables from their files. If the bounds are the graph's own, it has the result.
            result = graph.values[node.name] if sources == known else operation.infer(node, sources)
            bound = min(result.magnitude, SUM_LIMIT)
        dtype = graph.values[node.name].dtype
        found[node.name] = bound if dtype.is_float else min(bound, dtype.magnitude)
    return found
