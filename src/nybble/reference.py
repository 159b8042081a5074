"""The integer interpreter in NumPy: it defines what every network returns, bit for bit.

It walks the graph; what each node computes is in the file of its operation, ``nybble/graph/ops``. It shares no code
with the engine. Matrix products run in floating point, where they are exact as long as no partial sum can leave the
range in which every integer is a float: ``exact_float`` in ``ops/weights.py`` decides that from the weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from nybble.graph import Graph, GraphError, Input, Node, ValueType
from nybble.graph.ops import operation_of
from nybble.graph.types import Array


def interpret(
    graph: Graph, inputs: Array | Mapping[str, Array], *, keep: Iterable[str] | None = ()
) -> dict[str, Array]:
    """Run a graph on integer input.

    Parameters
    ----------
    graph : Graph
    inputs : ndarray or mapping of str to ndarray
        Integers of shape (N, C, H, W), any integer dtype, in the range of the input's type. A graph of several inputs
        takes a mapping from their names, all of one N.
    keep : iterable of str, optional
        Names of further values to return; ``None`` for every value. Others are freed once nothing reads them.

    Returns
    -------
    dict of str to ndarray
        The graph's outputs and what ``keep`` names, in the order in which they are computed, batch
        first, in the dtype ``graph.values[name].dtype.storage``.

    Raises
    ------
    ValueError
        If an input is missing, unknown, of the wrong shape or dtype, or out of range, or if ``keep`` names no value.
    """
    names = set(graph.values) if keep is None else set(keep)
    if unknown := sorted(names - graph.values.keys()):
        raise ValueError(f"the graph has no value named {unknown[0]!r}")
    names.update(graph.outputs)
    live = _checked(graph.inputs, inputs)
    last_reader = {name: node.name for node in graph.nodes for name in node.inputs}
    results = {name: value for name, value in live.items() if name in names}
    for node in graph.nodes:
        value = compute(node, [graph.values[name] for name in node.inputs], [live[name] for name in node.inputs])
        live[node.name] = value
        if node.name in names:
            results[node.name] = value
        for name in {node.name, *node.inputs}:
            if last_reader.get(name, node.name) == node.name:
                del live[name]
    return results


def _checked(entries: Sequence[Input], inputs: Array | Mapping[str, Array]) -> dict[str, Array]:
    """The inputs by name in their storage type, or a ValueError that says what was expected."""
    if not isinstance(inputs, Mapping):
        if len(entries) != 1:
            raise ValueError(f"the graph has {len(entries)} inputs; pass a mapping from their names")
        inputs = {entries[0].name: inputs}
    wanted = {entry.name for entry in entries}
    if wanted != inputs.keys():
        raise ValueError(f"expected inputs {sorted(wanted)}, got {sorted(inputs)}")
    checked: dict[str, Array] = {}
    for entry in entries:
        array = np.asarray(inputs[entry.name])
        shape = "x".join(map(str, entry.shape))
        if array.dtype.kind not in "iu" or array.shape[1:] != entry.shape or array.ndim != len(entry.shape) + 1:
            raise ValueError(
                f"input {entry.name!r} must be integers of shape (N, {', '.join(map(str, entry.shape))}), "
                f"got {array.dtype} of shape {array.shape}"
            )
        low, high = entry.dtype.minimum, entry.dtype.maximum
        if array.size and (int(array.min()) < low or int(array.max()) > high):
            raise ValueError(
                f"input {entry.name!r} is {entry.dtype}[{shape}]: expected {low}..{high}, "
                f"got {array.min()}..{array.max()}"
            )
        checked[entry.name] = array.astype(entry.dtype.storage)
    sizes = {name: len(array) for name, array in checked.items()}
    if len(set(sizes.values())) != 1:
        raise ValueError(f"the inputs differ in batch size: {sizes}")
    return checked


def compute(node: Node, types: Sequence[ValueType], values: Sequence[Array]) -> Array:
    """One node's output for a batch, from the types and the arrays (batch first) of what it reads.

    The node must be valid for those types (``nybble.graph.infer``) and the arrays in their range; nothing is checked.
    """
    operation = operation_of(node)
    if operation is None:
        raise GraphError(f"no operation of this name is registered: {node.op}", node=node.name)
    return operation.compute(node, types, values)
