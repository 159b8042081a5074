"""Changes to nodes that are built: other signs of the weights, another bias."""

from __future__ import annotations

import numpy as np

from nybble.graph.nodes import Node
from nybble.graph.onnx.errors import OnnxImportError
from nybble.graph.onnx.new_nodes import NewNodes
from nybble.graph.ops import Conv2d, Linear
from nybble.graph.ops.questions import adds, requantization, weighted, with_attributes
from nybble.graph.ops.roles import Weighted
from nybble.graph.tensor import Tensor
from nybble.graph.types import ACTIVATIONS, Array, DType

#: How much finer than an activation the sum is that a constant is added to.
FINER = 64
#: Most channels of a vector that are multiplied one by one: that takes a square matrix.
MAX_VECTOR = 1 << 11


def rewritten(build: NewNodes, name: str, sign: Array, steps: Array, reader: str) -> str | None:
    """A sum with other signs, then a summand for each channel.

    Parameters
    ----------
    build : NewNodes
    name : str
        A sum. It keeps its name if nobody else reads it; else a copy is made.
    sign : array
        (channels) -1, 0 or 1.
    steps : array
        (channels) what is added, in steps of the sum; rounded once, with the bias that is there.
    reader : str
        What to call a copy after.

    Returns
    -------
    str or None
        The changed sum; ``None`` if neither a convolution nor a matrix product makes it.
    """
    layer = weighted(build.made(name))
    if layer is not None:
        return _weights(build, layer, sign, steps, None if build.is_free(name) else reader)
    if not build.is_free(name):
        return None
    if np.any(sign != 1) and not _can_turn(build, name, None):
        return None
    if np.any(steps) and not _can_move(build, name, None):
        return None
    _turn(build, name, sign, steps)
    return name


def _can_turn(build: NewNodes, name: str, reader: str | None) -> bool:
    """Whether the signs of a sum can be turned: its sources, as far as nobody else reads them, are weighted."""
    node = build.made(name)
    if not build.is_free(name, reader) or node is None:
        return False
    rule = requantization(node)
    if adds(node):
        return _has_two(node) and all(_can_turn(build, source, name) for source in node.inputs)
    if rule is not None and rule.output_type is DType.S32:
        return rule.input_type in ACTIVATIONS or _can_turn(build, rule.inputs[0], name)
    return weighted(node) is not None


def _can_move(build: NewNodes, name: str, reader: str | None) -> bool:
    """Whether a sum has a bias, its own or that of one side, as far as nobody else reads it."""
    node = build.made(name)
    if not build.is_free(name, reader) or node is None:
        return False
    if adds(node):
        return _has_two(node) and any(_can_move(build, source, name) for source in node.inputs)
    return weighted(node) is not None


def _has_two(node: Node) -> bool:
    return len(set(node.inputs)) == len(node.inputs)


def _turn(build: NewNodes, name: str, sign: Array, steps: Array) -> None:
    """Change a sum in its place, after it was seen that this is possible."""
    node = build.made(name)
    layer, rule = weighted(node), requantization(node)
    if layer is not None:
        _weights(build, layer, sign, steps, None)
    elif node is not None and adds(node):
        target = next((source for source in node.inputs if _can_move(build, source, name)), None)
        for source in node.inputs:
            _turn(build, source, sign, steps if source == target else np.zeros_like(steps))
        build.replace(node)
    elif node is not None and rule is not None and np.any(sign != 1):
        if rule.input_type in ACTIVATIONS:
            turned = pointwise(build, node.inputs[0], sign, None, f"{name}_turned")
            build.replace(with_attributes(rule, inputs=(turned,), input_type=build.types[turned].dtype))
        else:
            _turn(build, node.inputs[0], sign, np.zeros_like(steps))
            build.replace(node)


def _weights(build: NewNodes, node: Weighted, sign: Array, steps: Array, copy: str | None) -> str:
    name = node.name if copy is None else build.free(copy)
    before = build.exact_bias.get(node.name)
    if before is None:
        before = np.zeros(len(sign)) if node.bias is None else node.bias.numpy().astype(np.float64)
    weight = node.weight
    if np.any(sign != 1):
        turned = weight.numpy().astype(np.int64) * sign.reshape(-1, *(1,) * (len(weight.shape) - 1))
        dtype = weight.dtype
        if turned.max() > dtype.maximum and dtype is DType.S4:
            dtype = DType.S8
        if turned.max() > dtype.maximum:
            # 128 of the most negative weight has no place in 8 bits.
            lost = (turned > dtype.maximum).reshape(len(turned), -1).sum(axis=1).max()
            reads = build.types[node.inputs[0]].magnitude
            build.rounded(name, "weight", float(lost * reads), "at most, in steps of the sum: -128 turned is 127")
            turned = np.minimum(turned, dtype.maximum)
        weight = Tensor.from_array(dtype, turned)
    total = before * sign + steps
    bias = None if node.bias is None and not np.any(total) else build.bias(name, total)
    made = with_attributes(node, name=name, weight=weight, bias=bias)
    if copy is None:
        build.replace(made)
        return name
    return build.add(made)


def pointwise(build: NewNodes, value: str, weight: Array, steps: Array | None, name: str) -> str:
    """An activation times an integer per channel, plus a summand: a convolution of 1x1 with one channel per group.

    Parameters
    ----------
    build : NewNodes
    value : str
        An activation.
    weight : array
        (channels) integers of -128..127.
    steps : array or None
        (channels) in steps of the result.
    name : str

    Returns
    -------
    str
        The sum.
    """
    reads = build.types[value]
    called = build.free(name)
    narrow = reads.dtype.bits == 4 and weight.min() >= DType.S4.minimum and weight.max() <= DType.S4.maximum
    dtype = DType.S4 if narrow else DType.S8
    bias = None if steps is None or not np.any(steps) else build.bias(called, steps)
    if len(reads.shape) == 3:
        kernel = Tensor.from_array(dtype, weight.reshape(-1, 1, 1, 1))
        return build.add(
            Conv2d(name=called, inputs=(value,), input_type=reads.dtype, weight=kernel, bias=bias, groups=len(weight))
        )
    if len(weight) > MAX_VECTOR:
        raise OnnxImportError(f"changes each of {len(weight)} numbers of a vector; at most {MAX_VECTOR}", node=name)
    matrix = Tensor.from_array(dtype, np.diag(weight))
    return build.add(Linear(name=called, inputs=(value,), input_type=reads.dtype, weight=matrix, bias=bias))
