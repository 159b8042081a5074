"""The tail of a module: real numbers that the host moves, joins or turns into probabilities."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch.fx import Node

from nybble import graph
from nybble.graph import RealConcat, RealReshape, RealSigmoid, RealSoftmax, RealTranspose
from nybble.quantize.ir.vocabulary import Translation

#: Operations that leave the elements in their order.
_VIEWS = ("view", "reshape", "_unsafe_view", "flatten", "unflatten", "squeeze", "unsqueeze", "clone", "contiguous")
_OTHERS = ("permute", "transpose", "cat", "sigmoid", "softmax", "_softmax")


def tail_of(outputs: Sequence[Node]) -> list[Node]:
    """The calls that only the outputs need and that the host can compute, in order."""
    taken: dict[Node, None] = {}
    for node in reversed(list(outputs[0].graph.nodes) if outputs else []):
        readers = [reader for reader in node.users if reader.op != "output" and reader not in taken]
        is_wanted = node in outputs or any(reader in taken for reader in node.users)
        if is_wanted and not readers and _name(node) in (*_VIEWS, *_OTHERS) and _keeps_batch(node):
            taken[node] = None
    return list(taken)[::-1]


def host_node(node: Node, name: str, inputs: Sequence[str]) -> graph.Node:
    """A call as a node of the integer graph."""
    kind, read = _name(node), tuple(inputs)
    if kind == "sigmoid":
        return RealSigmoid(name=name, inputs=read)
    rank = len(_shape(node))
    if kind in ("softmax", "_softmax"):
        return RealSoftmax(name=name, inputs=read, axis=_axis(node.args[1], rank))
    if kind == "cat" and len(read) > 1:
        return RealConcat(name=name, inputs=read, axis=_axis(node.args[1] if len(node.args) > 1 else 0, rank))
    if kind == "permute":
        order: Any = node.args[1]
        return RealTranspose(name=name, inputs=read, order=tuple(int(axis) % rank - 1 for axis in order[1:]))
    if kind == "transpose":
        axes = list(range(rank))
        first, second = (int(axis) % rank for axis in node.args[1:3])
        axes[first], axes[second] = second, first
        return RealTranspose(name=name, inputs=read, order=tuple(axis - 1 for axis in axes[1:]))
    return RealReshape(name=name, inputs=read, shape=tuple(_shape(node)[1:]))


def read_by(node: Node) -> list[Node]:
    """The values that a call of the tail reads, in their order."""
    given: Any = node.args[0]
    return list(given) if _name(node) == "cat" else [given]


def copy_of(name: str, source: str, shapes: Mapping[str, tuple[int, ...]]) -> graph.Node:
    """Another name for a real value."""
    return RealReshape(name=name, inputs=(source,), shape=shapes[source])


def views_of(value: Translation, name: str, source: str, between: str) -> list[graph.Node]:
    """Nodes that bring a real value of the network into the shape and order in which readers see it.

    Parameters
    ----------
    value : Translation
    name, source, between : str
        The result, the real value in the network's own shape, and a name for what may lie between.
    """
    order = (*value.order, *(axis for axis in range(len(value.extents)) if axis not in value.order))
    reshaped = RealReshape(name=name, inputs=(source,), shape=value.shape)
    if value.is_natural:
        return [reshaped]
    turned = RealTranspose(name=between, inputs=(source,), order=order)
    return [turned, replace(reshaped, inputs=(between,))]


def _keeps_batch(node: Node) -> bool:
    """Whether the images of a batch stay apart, and nothing but values of one tensor each is read."""
    shapes = [_shape(entry) for entry in (node, *node.all_input_nodes)]
    if any(len(shape) < 2 or shape[0] != shapes[0][0] for shape in shapes):
        return False
    kind, rank = _name(node), len(shapes[0])
    if kind in ("softmax", "_softmax", "cat"):
        axis: Any = node.args[1] if len(node.args) > 1 else 0
        return all(isinstance(entry, Node) for entry in read_by(node)) and int(axis) % rank > 0
    if kind == "permute":
        order: Any = node.args[1]
        return int(order[0]) % rank == 0
    if kind == "transpose":
        return all(int(axis) % rank > 0 for axis in node.args[1:3])
    return math.prod(shapes[0]) == math.prod(shapes[1])


def _axis(axis: Any, rank: int) -> int:
    return int(axis) % rank - 1


def _name(node: Node) -> str:
    return str(node.target).removeprefix("aten.").split(".")[0] if node.op == "call_function" else ""


def _shape(node: Node) -> tuple[int, ...]:
    value = node.meta.get("val")
    return tuple(int(extent) for extent in value.shape) if hasattr(value, "shape") else ()
