"""Layers, batch norm, activation functions and additions of an ONNX file."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from nybble.graph import Pair
from nybble.graph.types import Array
from nybble.quantize.float_network import Conv, Dense, Norm, Rectifier, Sum
from nybble.quantize.onnx_source.handlers import (
    Result,
    Unsupported,
    Value,
    constant_of,
    extents_of,
    handles,
    image_of,
    padding_of,
    pair_of,
    tensor_of,
    value_of,
)
from nybble.quantize.translate import Translation

#: Bounds as exporters write them where there are none.
_NO_LIMIT = float(np.finfo(np.float32).max)


# Layers


@handles("Conv")
def _conv(node: Any, x: Value, weight: Value, bias: Value | None = None) -> Result:
    x, kernel = image_of(x), constant_of(weight, "weights")
    if kernel.ndim != 4:
        raise Unsupported("only two-dimensional convolutions can be")
    window = Pair(kernel.shape[2], kernel.shape[3])
    stride, dilation = pair_of(node, "strides"), pair_of(node, "dilations")
    padding = padding_of(node, x, window, stride, dilation)
    return Conv(
        name="",
        inputs=(x.name,),
        shape=(len(kernel), *extents_of(x, window, stride, padding, dilation)),
        weight=tensor_of(kernel),
        bias=None if bias is None else tensor_of(constant_of(bias, "biases").reshape(-1)),
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=int(node.get("group", 1)),
    )


@handles("Gemm")
def _gemm(node: Any, x: Value, weight: Value, bias: Value | None = None) -> Result:
    if not isinstance(x, Translation) or len(x.shape) != 1 or node.get("transA", 0):
        raise Unsupported("it must read vectors (N, C); flatten before")
    matrix = constant_of(weight, "weights") * np.float32(node.get("alpha", 1.0))
    if not node.get("transB", 0):
        matrix = matrix.T
    offset = None
    if bias is not None:
        offset = constant_of(bias, "biases").reshape(-1) * np.float32(node.get("beta", 1.0))
        offset = tensor_of(np.broadcast_to(offset, len(matrix)))
    return Dense(name="", inputs=(x.name,), shape=(len(matrix),), weight=tensor_of(matrix), bias=offset)


@handles("MatMul")
def _matmul(node: Any, x: Value, weight: Value) -> Result:
    if not isinstance(x, Translation) or len(x.shape) != 1:
        raise Unsupported("it must multiply vectors (N, C) by a constant matrix; flatten before")
    matrix = constant_of(weight, "weights").T
    return Dense(name="", inputs=(x.name,), shape=(len(matrix),), weight=tensor_of(matrix))


@handles("BatchNormalization")
def _batch_norm(node: Any, x: Value, gain: Value, offset: Value, mean: Value, variance: Value) -> Result:
    if not isinstance(x, Translation) or node.get("training_mode", 0):
        raise Unsupported("export the network in evaluation mode")
    values = [tensor_of(constant_of(value, "its parameters")) for value in (gain, offset, mean, variance)]
    return _norm(x, *values, eps=float(node.get("epsilon", 1e-5)))


def _norm(x: Translation, *parameters: torch.Tensor, eps: float) -> Norm:
    gain, offset, mean, variance = parameters
    shape = x.shape
    return Norm(name="", inputs=(x.name,), shape=shape, gain=gain, offset=offset, mean=mean, variance=variance, eps=eps)


# Element by element


@handles("Relu")
def _relu(node: Any, x: Value) -> Result:
    x = value_of(x)
    return Rectifier(name="", inputs=(x.name,), shape=x.shape)


@handles("Clip")
def _clip(node: Any, x: Value, low: Value | None = None, high: Value | None = None) -> Result:
    x = value_of(x)
    least, most = (
        float(constant_of(value, "its bounds").reshape(-1)[0]) if value is not None else node.get(name, default)
        for value, name, default in ((low, "min", -_NO_LIMIT), (high, "max", _NO_LIMIT))
    )
    if least <= -_NO_LIMIT and most >= _NO_LIMIT:
        return x
    if least != 0 or not most > 0:
        raise Unsupported(f"it clips to {least:g}..{most:g}; the lower end must be 0")
    return Rectifier(name="", inputs=(x.name,), shape=x.shape, maximum=None if most >= _NO_LIMIT else float(most))


@handles("Add", "Sum")
def _add(node: Any, left: Value, right: Value, *more: Value) -> Result:
    if more:
        raise Unsupported("only two values can be added at once")
    if isinstance(left, Translation) and isinstance(right, Translation):
        if left.shape != right.shape:
            raise Unsupported(f"only values of one shape can be added, not {left.shape} and {right.shape}")
        return Sum(name="", inputs=(left.name, right.name), shape=left.shape)
    x, array = _with_constant(left, right)
    return _affine(x, np.ones(1), array)


@handles("Sub")
def _subtract(node: Any, left: Value, right: Value) -> Result:
    x, array = _with_constant(left, right)
    return _affine(x, np.ones(1), -array) if x is left else _affine(x, -np.ones(1), array)


@handles("Mul")
def _multiply(node: Any, left: Value, right: Value) -> Result:
    x, array = _with_constant(left, right)
    return _affine(x, array, np.zeros(1))


@handles("Div")
def _divide(node: Any, left: Value, right: Value) -> Result:
    x, array = _with_constant(left, right)
    if x is right:
        raise Unsupported("nothing can be divided by a value")
    return _affine(x, 1.0 / array.astype(np.float64), np.zeros(1))


def _with_constant(left: Value, right: Value) -> tuple[Translation, Array]:
    if isinstance(left, Translation) and isinstance(right, np.ndarray):
        return left, right
    if isinstance(right, Translation) and isinstance(left, np.ndarray):
        return right, left
    raise Unsupported(
        "two values cannot be combined, except added; gates (squeeze and excitation) have no integer form"
    )


def _affine(x: Translation, factor: Array, offset: Array) -> Result:
    """A factor and an offset by channel: a batch norm that knows nothing else."""
    channels = x.shape[0]
    gain, shift = (tensor_of(_by_channel(array, x)) for array in (factor, offset))
    return _norm(x, gain, shift, torch.zeros(channels), torch.ones(channels), eps=0.0)


def _by_channel(array: Array, x: Translation) -> Array:
    if array.size == 1:
        return np.full(x.shape[0], array.reshape(-1)[0])
    full = (1,) * (len(x.shape) + 1 - array.ndim) + array.shape
    if full != (1, x.shape[0], *(1,) * (len(x.shape) - 1)):
        raise Unsupported(f"its constant of shape {array.shape} differs by more than channels")
    return array.reshape(-1)
