"""The tail of a network: real numbers that the host moves, joins or turns into probabilities."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nybble.graph import Node, RealConcat, RealReshape, RealSigmoid, RealSoftmax, RealTranspose
from nybble.graph.types import Array
from nybble.quantize.sources.onnx.model import OnnxModel, OnnxNode

#: Operators that the host can do.
_OPERATORS = frozenset(("Concat", "Flatten", "Identity", "Reshape", "Sigmoid", "Softmax", "Transpose"))


@dataclass(frozen=True)
class Tail:
    """The nodes that the host computes, and where they start.

    Attributes
    ----------
    nodes : tuple of OnnxNode
        In order.
    cuts : tuple of str
        ONNX values that they read, and outputs that they do not make: the results of the network itself.
    constants : tuple of str
        ONNX values that they read and that depend on no image.
    """

    nodes: tuple[OnnxNode, ...]
    cuts: tuple[str, ...]
    constants: tuple[str, ...]


def tail_of(model: OnnxModel) -> Tail:
    """Separate the nodes that only the outputs need and that the host can compute."""
    readers: dict[str, list[OnnxNode]] = {}
    for node in model.nodes:
        for name in node.inputs:
            readers.setdefault(name, []).append(node)
    depends = {model.entry}
    for node in model.nodes:
        if depends.intersection(node.inputs):
            depends.update(node.outputs)
    taken: list[OnnxNode] = []
    for node in reversed(model.nodes):
        outside = [reader for name in node.outputs for reader in readers.get(name, []) if reader not in taken]
        wanted = any(name in depends and (name in model.outputs or name in readers) for name in node.outputs)
        if node.op in _OPERATORS and node.domain in ("", "ai.onnx") and wanted and not outside:
            taken.insert(0, node)
    made = {name for node in taken for name in node.outputs}
    read = [name for node in taken for name in node.inputs if name and name not in made]
    cuts = [name for name in (*read, *model.outputs) if name in depends and name not in made]
    constants = [name for name in read if name not in depends]
    return Tail(tuple(taken), tuple(dict.fromkeys(cuts)), tuple(dict.fromkeys(constants)))


def host_nodes(tail: Tail, constants: Mapping[str, Array], shapes: Mapping[str, tuple[int, ...]]) -> list[Node]:
    """The tail as nodes of the integer graph, called after the ONNX values that they make.

    Parameters
    ----------
    tail : Tail
    constants : mapping of str to array
    shapes : mapping of str to tuple of int
        Of the cuts, without the batch.

    Raises
    ------
    ValueError
        Naming the operation that the host cannot compute.
    """
    known = dict(shapes)
    nodes: list[Node] = []
    for node in tail.nodes:
        inputs = tuple(name for name in node.inputs if name in known)
        (output,) = node.outputs
        try:
            made = _host_node(node, output, inputs, [known[name] for name in inputs], constants)
        except ValueError as error:
            raise ValueError(f"node {node.label}: cannot run on the host: {error}") from None
        nodes.append(made)
        known[output] = _shape_of(made, [known[name] for name in inputs])
    return nodes


def _shape_of(node: Node, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    from nybble.graph.infer import infer
    from nybble.graph.ops.real import real

    return infer(node, [real(*shape) for shape in shapes]).shape


def _host_node(
    node: OnnxNode, name: str, inputs: tuple[str, ...], shapes: list[tuple[int, ...]], constants: Mapping[str, Array]
) -> Node:
    rank = len(shapes[0]) + 1
    if node.op == "Sigmoid":
        return RealSigmoid(name=name, inputs=inputs)
    if node.op == "Softmax":
        axis = int(node.get("axis", -1)) % rank
        if axis == 0:
            raise ValueError("a softmax over the batch")
        return RealSoftmax(name=name, inputs=inputs, axis=axis - 1)
    if node.op == "Concat":
        if len(inputs) != len(node.inputs) or node.get("axis", 1) % rank == 0:
            raise ValueError("a concatenation with constants, or of batches")
        return RealConcat(name=name, inputs=inputs, axis=node.get("axis", 1) % rank - 1)
    if node.op == "Transpose":
        order = list(node.get("perm") or range(rank)[::-1])
        if order[:1] != [0]:
            raise ValueError(f"axes in the order {tuple(order)} do not leave the batch first")
        return RealTranspose(name=name, inputs=inputs, order=tuple(axis - 1 for axis in order[1:]))
    if node.op == "Reshape":
        target = constants.get(node.inputs[1])
        if target is None:
            raise ValueError("a reshaping to what depends on the image")
        return RealReshape(name=name, inputs=inputs, shape=_resolved(target, node.batch, shapes[0]))
    if node.op == "Flatten":
        return RealReshape(name=name, inputs=inputs, shape=(math.prod(shapes[0]),))
    return RealReshape(name=name, inputs=inputs, shape=shapes[0])


def _resolved(target: Array, batch: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    whole = (batch, *shape)
    given: list[Any] = [int(size) for size in np.asarray(target).reshape(-1)]
    wanted = [whole[place] if size == 0 and place < len(whole) else size for place, size in enumerate(given)]
    if wanted.count(-1) == 1:
        known = -math.prod(wanted)
        wanted[wanted.index(-1)] = math.prod(whole) // known if known > 0 else 0
    if wanted[:1] == [1] and batch != 1:
        wanted[0] = batch
    if min(wanted) < 1 or math.prod(wanted) != math.prod(whole) or wanted[0] != batch:
        raise ValueError(f"a reshaping of {whole} to {given} that does not keep the images apart")
    return tuple(wanted[1:])
