"""Layers, batch norm, activation functions and constants of an ONNX file."""

from __future__ import annotations

from typing import Any

import numpy as np

from nybble.graph import Pair
from nybble.quantize.ir import vocabulary
from nybble.quantize.sources.onnx.handlers import (
    Result,
    Unsupported,
    Value,
    constant_of,
    handles,
    image_of,
    operand_of,
    padding_of,
    pair_of,
    tensor_of,
    value_of,
)

# Layers


@handles("Conv")
def _conv(node: Any, x: Value, weight: Value, bias: Value | None = None) -> Result:
    x, kernel = image_of(x), constant_of(weight, "weights")
    if kernel.ndim != 4:
        raise Unsupported("only two-dimensional convolutions can be")
    window = Pair(kernel.shape[2], kernel.shape[3])
    stride, dilation = pair_of(node, "strides"), pair_of(node, "dilations")
    padding = padding_of(node, x, window, stride, dilation)
    offset = None if bias is None else tensor_of(constant_of(bias, "biases"))
    return vocabulary.conv(x, tensor_of(kernel), offset, stride, padding, dilation, int(node.get("group", 1)))


@handles("Gemm")
def _gemm(node: Any, x: Value, weight: Value, bias: Value | None = None) -> Result:
    x = value_of(x)
    if len(x.shape) != 1 or node.get("transA", 0):
        raise Unsupported("it must read vectors (N, C); flatten before")
    matrix = constant_of(weight, "weights") * np.float32(node.get("alpha", 1.0))
    if not node.get("transB", 0):
        matrix = matrix.T
    offset = None if bias is None else constant_of(bias, "biases") * np.float32(node.get("beta", 1.0))
    return vocabulary.dense(x, tensor_of(matrix), None if offset is None else tensor_of(offset))


@handles("MatMul")
def _matmul(node: Any, x: Value, weight: Value) -> Result:
    return vocabulary.matmul(operand_of(x), operand_of(weight))


@handles("BatchNormalization")
def _batch_norm(node: Any, x: Value, gain: Value, offset: Value, mean: Value, variance: Value) -> Result:
    if node.get("training_mode", 0):
        raise Unsupported("export the network in evaluation mode")
    scale, shift, middle, spread = (
        tensor_of(constant_of(value, "its parameters")) for value in (gain, offset, mean, variance)
    )
    return vocabulary.batch_norm(value_of(x), scale, shift, middle, spread, float(node.get("epsilon", 1e-5)))


# Element by element


@handles("Relu")
def _relu(node: Any, x: Value) -> Result:
    return vocabulary.clip(value_of(x), 0.0, None)


@handles("Clip")
def _clip(node: Any, x: Value, low: Value | None = None, high: Value | None = None) -> Result:
    least, most = (
        float(constant_of(value, "its bounds").reshape(-1)[0]) if value is not None else node.get(name)
        for value, name in ((low, "min"), (high, "max"))
    )
    return vocabulary.clip(value_of(x), least, most)


@handles("Max", "Min")
def _limit(node: Any, *values: Value) -> Result:
    found = [value_of(value) for value in values if not isinstance(value, np.ndarray)]
    bounds = [vocabulary.bound_of(tensor_of(value)) for value in values if isinstance(value, np.ndarray)]
    if len(found) != 1:
        raise Unsupported("it must compare one value with constants")
    (x,) = found
    if any(isinstance(value, np.ndarray) and value.ndim > len(x.shape) + 1 for value in values):
        raise Unsupported("a limit must not enlarge what it limits")
    if node.op == "Max":
        return vocabulary.clip(x, max(bounds, default=None), None)
    return vocabulary.clip(x, None, min(bounds, default=None))


@handles("Add", "Sum")
def _add(node: Any, *values: Value) -> Result:
    return vocabulary.sum_of([operand_of(value) for value in values])


@handles("Sub")
def _subtract(node: Any, left: Value, right: Value) -> Result:
    return vocabulary.subtract(operand_of(left), operand_of(right))


@handles("Mul")
def _multiply(node: Any, left: Value, right: Value) -> Result:
    return vocabulary.multiply(operand_of(left), operand_of(right))


@handles("Div")
def _divide(node: Any, left: Value, right: Value) -> Result:
    return vocabulary.divide(operand_of(left), operand_of(right))


@handles("Neg")
def _negate(node: Any, x: Value) -> Result:
    return vocabulary.negate(value_of(x))


@handles("Softmax", "LogSoftmax")
def _softmax(node: Any, x: Value) -> Result:
    # At the end: the order of the classes stays, and logits are what is compared and distilled.
    x = value_of(x)
    axis = node.get("axis", 1 if len(x.shape) == 1 else -1)
    return vocabulary.softmax(x, axis, log=node.op == "LogSoftmax")
