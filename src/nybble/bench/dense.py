"""The worst case of an engine that skips zeros: a network with the same weights in which no activation is zero.

Only biases change, and only as far as needed. Peers multiply zeros like any number, so their speed on photos is their
worst case as well.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from nybble.bench.errors import BenchError
from nybble.engine import Engine
from nybble.graph import DType, Graph, Node, Tensor
from nybble.graph.ops.questions import requantization, weighted
from nybble.graph.types import Array

#: Doublings of what is added to a bias: 2**16 output steps are more than any sum of the types needs.
MAX_ROUNDS = 20
#: A channel counts as dense where at most this part of it is zero.
ZEROS_LEFT = 0.002


def dense_copy(graph: Graph, photos: Array) -> tuple[Graph, float]:
    """Raise biases until the activations that convolutions read are not zero on the photos given.

    Parameters
    ----------
    graph : Graph
        With preprocessing.
    photos : array
        uint8 (N, H, W, C); a few are enough.

    Returns
    -------
    Graph
        Other biases, and factors of 0 replaced; everything else is shared.
    float
        The part of the unsigned activations that still is zero on these photos.
    """
    if graph.preprocessing is None:
        raise BenchError("the model has no file `preprocessing`, so it takes no photos; see docs/format.md")
    inputs = graph.preprocessing.quantize(graph.preprocessing.normalise(photos)).transpose(0, 3, 1, 2).copy()
    dense = _revived(graph)
    # What was added so far to each bias, in steps of the output; doubled where a channel still has zeros.
    added: dict[str, Array] = {}
    share = 1.0
    for _ in range(MAX_ROUNDS):
        with Engine(dense) as engine:
            steps = [step for step in engine.plan.steps if step.conv is not None]
            values = engine.tap(inputs)
        raised: dict[str, Array] = {}
        zeros = total = 0
        for step in steps:
            quantize = step.quantize
            if quantize is None or quantize.output_type.is_signed or step.table is not None:
                continue
            value = values[step.output]
            zero = (value == 0).reshape(len(value), value.shape[1], -1)
            zeros += int(zero.sum())
            total += zero.size
            lacking = zero.mean(axis=(0, 2)) > ZEROS_LEFT
            if lacking.any():
                before = added.setdefault(step.head.name, np.zeros(len(lacking), dtype=np.int64))
                more = np.where(lacking, np.maximum(before, 1), 0)
                before += more
                unit = np.ceil(2.0**quantize.shift / quantize.factor.numpy().astype(np.float64)).astype(np.int64)
                raised[step.head.name] = more * unit
        share = zeros / total if total else 0.0
        if not raised:
            break
        dense = _with_nodes(dense, {name: _raised(dense[name], more) for name, more in raised.items()})
    return dense, share


def _raised(node: Node, more: Array) -> Node:
    layer = weighted(node)
    if layer is None:
        raise TypeError(f"{node.name} has no bias")
    bias = more if layer.bias is None else layer.bias.numpy().astype(np.int64) + more
    kind = DType.S16 if np.abs(bias).max() <= DType.S16.maximum else DType.S32
    changes: dict[str, Any] = {"bias": Tensor.from_array(kind, np.minimum(bias, DType.S32.maximum))}
    return replace(node, **changes)


def _revived(graph: Graph) -> Graph:
    """A factor of 0 makes a channel zero for any bias: such channels get the median factor of their layer."""
    changed: dict[str, Node] = {}
    for node in graph:
        if (rule := requantization(node)) is not None:
            factor = rule.factor.numpy()
            if (factor == 0).any() and (factor > 0).any():
                median = int(np.median(factor[factor > 0]))
                alive = np.where(factor == 0, median, factor)
                changes: dict[str, Any] = {"factor": Tensor.from_array(rule.factor.dtype, alive)}
                changed[node.name] = replace(node, **changes)
    return _with_nodes(graph, changed) if changed else graph


def _with_nodes(graph: Graph, changed: dict[str, Node]) -> Graph:
    return Graph(
        graph.inputs,
        [changed.get(node.name, node) for node in graph],
        graph.outputs,
        preprocessing=graph.preprocessing,
        class_names=graph.class_names,
        task=graph.task,
    )
