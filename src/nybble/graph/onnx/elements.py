"""Elementwise operators of ONNX as functions of one number for each code."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import onnx
from onnx import TensorProto

from nybble.graph import functions
from nybble.graph.onnx.errors import OnnxImportError
from nybble.graph.onnx.load import attribute, label
from nybble.graph.types import Array

#: From a node and what it reads, one number a code or one number, to its values; ``None`` stands for an absent input.
Evaluator: TypeAlias = Callable[[onnx.NodeProto, Sequence[Any]], Array]

_CAST = {
    TensorProto.FLOAT: np.float32,
    TensorProto.DOUBLE: np.float64,
    TensorProto.INT32: np.int32,
    TensorProto.INT64: np.int64,
}


def _of(function: Callable[..., Array]) -> Evaluator:
    """A function of the inputs alone."""
    return lambda node, given: function(*given)


def _with(function: Callable[..., Array], **defaults: float) -> Evaluator:
    """A function of one number with attributes, by their names in ONNX."""
    return lambda node, given: function(given[0], *(attribute(node, name, value) for name, value in defaults.items()))


def _clip(node: onnx.NodeProto, given: Sequence[Any]) -> Array:
    bounds = [
        given[place] if len(given) > place and given[place] is not None else attribute(node, name, default)
        for place, name, default in ((1, "min", -np.inf), (2, "max", np.inf))
    ]
    clipped: Array = np.minimum(np.maximum(given[0], bounds[0]), bounds[1])
    return clipped


def _gelu(node: onnx.NodeProto, given: Sequence[Any]) -> Array:
    is_tanh = attribute(node, "approximate", b"none") == b"tanh"
    return functions.gelu_tanh(given[0]) if is_tanh else functions.gelu(given[0])


def _cast(node: onnx.NodeProto, given: Sequence[Any]) -> Array:
    kind = _CAST.get(attribute(node, "to", 0))
    if kind is None:
        raise OnnxImportError("casts to a type that is neither float nor int32 or int64", node=label(node))
    return np.asarray(given[0]).astype(kind)


def _gather(node: onnx.NodeProto, given: Sequence[Any]) -> Array:
    entries, index = given
    if np.ndim(entries) != 1 or attribute(node, "axis", 0) or np.asarray(index).dtype.kind not in "iu":
        raise OnnxImportError("gathers by values of the network from another constant than a list", node=label(node))
    if np.min(index) < -len(entries) or np.max(index) >= len(entries):
        raise OnnxImportError(f"gathers beyond its {len(entries)} entries", node=label(node))
    found: Array = entries[index]
    return found


def _selu(x: Array, alpha: float, gamma: float) -> Array:
    return gamma * functions.elu(x, alpha)


def _thresholded(x: Array, alpha: float) -> Array:
    return np.where(x > alpha, x, 0.0)


#: Operators that no other reader handles; each has to become part of a table.
FUNCTIONS: Mapping[str, Evaluator] = {
    "Abs": _of(np.abs),
    "Celu": _with(lambda x, alpha: np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0) / alpha)), alpha=1.0),
    "Elu": _with(functions.elu, alpha=1.0),
    "Erf": _of(functions.erf),
    "Exp": _of(np.exp),
    "Gather": _gather,
    "Gelu": _gelu,
    "HardSigmoid": _with(functions.hard_sigmoid, alpha=0.2, beta=0.5),
    "HardSwish": _of(lambda x: x * functions.hard_sigmoid(x)),
    "LeakyRelu": _with(lambda x, alpha: np.where(x >= 0, x, alpha * x), alpha=0.01),
    "Log": _of(np.log),
    "Mish": _of(functions.NAMED["Mish"]),
    "PRelu": _of(lambda x, slope: np.where(x >= 0, x, slope * x)),
    "Pow": _of(np.power),
    "Reciprocal": _of(lambda x: 1.0 / x),
    "Selu": _with(_selu, alpha=1.67326319217681884765625, gamma=1.05070102214813232421875),
    "Sigmoid": _of(functions.sigmoid),
    "Softplus": _of(functions.softplus),
    "Softsign": _of(functions.NAMED["Softsign"]),
    "Sqrt": _of(np.sqrt),
    "Swish": _with(lambda x, alpha: x * functions.sigmoid(alpha * x), alpha=1.0),
    "Tanh": _of(np.tanh),
    "ThresholdedRelu": _with(_thresholded, alpha=1.0),
}
#: Operators that may become part of a table, and that other readers handle as well.
PARTS: Mapping[str, Evaluator] = {
    "Add": _of(np.add),
    "Cast": _cast,
    "Clip": _clip,
    "Div": _of(np.divide),
    "Identity": _of(np.asarray),
    "Max": _of(lambda *given: np.maximum.reduce(np.broadcast_arrays(*given))),
    "Min": _of(lambda *given: np.minimum.reduce(np.broadcast_arrays(*given))),
    "Mul": _of(np.multiply),
    "Neg": _of(np.negative),
    "Relu": _of(lambda x: np.maximum(x, 0)),
    "Sub": _of(np.subtract),
    "Sum": _of(lambda *given: np.add.reduce(np.broadcast_arrays(*given))),
}
EVALUATORS = {**PARTS, **FUNCTIONS}
#: Operators on two values of the network that no other reader handles.
OF_TWO = ("Div", "Max", "Min", "Mul", "Pow")
INTEGERS = (TensorProto.INT32, TensorProto.INT64)
