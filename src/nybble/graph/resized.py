"""The same network for images of another size: the weights are shared, only shapes and sizes change."""

from __future__ import annotations

from dataclasses import replace

from nybble.graph.errors import GraphError
from nybble.graph.graph import Graph
from nybble.graph.infer import infer, infer_input
from nybble.graph.nodes import Node
from nybble.graph.ops import operation_of
from nybble.graph.preprocessing import Preprocessing
from nybble.graph.task import Detect


def resized(graph: Graph, rows: int, columns: int) -> Graph:
    """The network for an input of ``rows`` by ``columns``.

    Pools over the whole image still cover it, resizing keeps its factors, slices up to the end still end there, and
    reshapes of outputs are adapted (:meth:`nybble.graph.ops.Operation.resized`). The preprocessing makes photos of the
    new size; if it crops, the short side before the crop grows by the larger of both factors.

    Parameters
    ----------
    graph : Graph
        Of one input (C, H, W).
    rows, columns : int
        The new extents, at least 1.

    Raises
    ------
    GraphError
        If the network cannot take the size: an extent is out of range, a layer has a weight for every pixel, values no
        longer fit each other, or the task has anchors for one size only.
    """
    if len(graph.inputs) != 1 or len(graph.inputs[0].shape) != 3:
        raise GraphError("only a network of one image as its input can take images of another size")
    entry = graph.inputs[0]
    if (rows, columns) == entry.shape[1:]:
        return graph
    if isinstance(graph.task, Detect) and graph.task.anchors is not None:
        raise graph.task.error("anchors", f"are for an input of {entry.shape[1]}x{entry.shape[2]} only")
    entry = replace(entry, shape=(entry.shape[0], rows, columns))
    try:
        values = {entry.name: infer_input(entry)}
        nodes: list[Node] = []
        for node in graph:
            before = [graph.values[name] for name in node.inputs]
            after = [values[name] for name in node.inputs]
            operation = operation_of(node)
            if operation is not None and before != after:
                node = operation.resized(node, before, after)
            values[node.name] = infer(node, after)
            nodes.append(node)
        preprocessing = None if graph.preprocessing is None else _preprocessing(graph.preprocessing, rows, columns)
        return Graph(
            [entry],
            nodes,
            graph.outputs,
            preprocessing=preprocessing,
            class_names=graph.class_names,
            task=graph.task,
        )
    except GraphError as error:
        raise GraphError(
            f"the network cannot take {rows}x{columns} pixels: {error.message}", node=error.node, field=error.field
        ) from error


def _preprocessing(preprocessing: Preprocessing, rows: int, columns: int) -> Preprocessing:
    growth = max(rows / preprocessing.crop[0], columns / preprocessing.crop[1])
    resize = max(rows, columns, round(preprocessing.resize * growth))
    return replace(preprocessing, crop=(rows, columns), resize=resize)
