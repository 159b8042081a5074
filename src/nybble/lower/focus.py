"""Merges a focus (every second row and column, joined as channels) into the convolution that reads it."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from nybble.graph import Concat, Conv2d, Graph, MaxPool2d, Node, Padding, Pair, Slice, Tensor
from nybble.graph.types import Array


class _Phase(NamedTuple):
    """All channels of a value, every ``step`` rows and columns from ``first`` on."""

    source: str
    first: Pair
    step: Pair


def without_focus(graph: Graph) -> Graph:
    """The graph with each focus (YOLOX, YOLOv5) merged into the convolution that reads it.

    A focus joins the phases of an image, ``x[:, a::n, b::m]``, as channels. A convolution of these equals a convolution
    of the image whose window and stride are ``n`` by ``m`` times as large: it sums the same products. Nodes whose
    results are no longer read are removed.
    """
    nodes = {node.name: node for node in graph}
    made = [_folded(graph, node, nodes) for node in graph]
    if all(new is old for new, old in zip(made, graph, strict=True)):
        return graph
    read = set(graph.outputs)
    kept: list[Node] = []
    for node in reversed(made):
        if node.name in read:
            read.update(node.inputs)
            kept.append(node)
    return Graph(graph.inputs, kept[::-1], graph.outputs, preprocessing=graph.preprocessing)


def _folded(graph: Graph, node: Node, nodes: dict[str, Node]) -> Node:
    """The convolution of the image that replaces one of its phases; any other node unchanged."""
    if not isinstance(node, Conv2d) or node.groups != 1 or tuple(node.dilation) != (1, 1):
        return node
    joined = nodes.get(node.inputs[0])
    if not isinstance(joined, Concat):
        return node
    phases = [_phase(graph, name, nodes) for name in joined.inputs]
    source, step = phases[0].source, phases[0].step
    shape = graph.values[source].shape
    whole = (shape[0], *(step[axis] * graph.values[joined.name].shape[axis + 1] for axis in (0, 1)))
    if tuple(step) == (1, 1) or shape != whole or any((each.source, each.step) != (source, step) for each in phases):
        return node
    if len({each.first for each in phases}) != len(phases):
        return node
    pad = node.padding
    return replace(
        node,
        inputs=(source,),
        weight=Tensor.from_array(node.weight.dtype, _spread(node.weight.numpy(), phases, step)),
        stride=Pair(node.stride.rows * step.rows, node.stride.columns * step.columns),
        padding=Padding(pad.top * step.rows, pad.left * step.columns, pad.bottom * step.rows, pad.right * step.columns),
    )


def _spread(weight: Array, phases: list[_Phase], step: Pair) -> Array:
    """The weights (outputs, phases * channels, rows, columns) of phases as those of the image."""
    outputs, joined, rows, columns = weight.shape
    channels = joined // len(phases)
    made = np.zeros((outputs, channels, rows * step.rows, columns * step.columns), weight.dtype)
    for place, phase in enumerate(phases):
        part = weight[:, place * channels : (place + 1) * channels]
        made[:, :, phase.first.rows :: step.rows, phase.first.columns :: step.columns] = part
    return made


def _phase(graph: Graph, name: str, nodes: dict[str, Node]) -> _Phase:
    """The slice of another value that a value consists of."""
    first, step = [0, 0], [1, 1]
    while True:
        node = nodes.get(name)
        taken = None if node is None else _taken(graph, node)
        if node is None or taken is None:
            return _Phase(name, Pair(*first), Pair(*step))
        for axis in (0, 1):
            first[axis] = taken[0][axis] + taken[1][axis] * first[axis]
            step[axis] *= taken[1][axis]
        name = node.inputs[0]


def _taken(graph: Graph, node: Node) -> tuple[Pair, Pair] | None:
    """First row and column, and steps, of a node that takes rows and columns to the end, and every channel."""
    channels, *extents = graph.values[node.inputs[0]].shape
    if isinstance(node, MaxPool2d):
        is_alone = tuple(node.kernel_size) == (1, 1) and not any(node.padding)
        return (Pair(0, 0), node.stride) if is_alone else None
    if not isinstance(node, Slice) or (node.start[0], node.stop[0], node.step[0]) != (0, channels, 1):
        return None
    for axis, extent in enumerate(extents, 1):
        if node.start[axis] >= node.step[axis] or node.stop[axis] - 1 + node.step[axis] < extent:
            return None
    return Pair(*node.start[1:]), Pair(*node.step[1:])
