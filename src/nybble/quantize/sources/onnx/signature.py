"""What the inputs of an operator may be, held against a node before its handler sees them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence

import numpy as np

from nybble.graph.types import Array
from nybble.quantize.ir.vocabulary import Stack, Translation
from nybble.quantize.sources.onnx.handlers import HANDLERS, Handler, Unsupported, Value
from nybble.quantize.sources.onnx.model import OnnxNode

#: Numbers that lists of axes, sides and extents have at most.
_MOST = 32
#: Inputs that are lists of integers, by place.
_INTEGERS: Mapping[str, Sequence[int]] = {
    "Reshape": (1,),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Pad": (1, 3),
    "Squeeze": (1,),
    "Unsqueeze": (1,),
    "ReduceMean": (1,),
    "Expand": (1,),
}
#: Dimensions of inputs that are weights, by place.
_RANKS: Mapping[str, Mapping[int, int]] = {
    "Conv": {1: 4, 2: 1},
    "Gemm": {1: 2},
    "MatMul": {1: 2},
    "BatchNormalization": {1: 1, 2: 1, 3: 1, 4: 1},
}
#: Inputs that are one number, by place.
_NUMBERS: Mapping[str, Sequence[int]] = {"Clip": (1, 2), "Pad": (2,), "Dropout": (1, 2)}


def check(node: OnnxNode, inputs: Sequence[Value | None]) -> Handler:
    """The handler of a node, once what it reads has the number, types and dimensions that handlers rely on.

    Raises
    ------
    Unsupported
        Saying what does not fit the operator.
    """
    handler = HANDLERS[node.op]
    try:
        inspect.signature(handler).bind(node, *inputs)
    except TypeError:
        raise Unsupported(f"{len(inputs)} inputs are not those of the operator") from None
    for place, value in enumerate(inputs):
        if isinstance(value, Translation | Stack):
            if place in _INTEGERS.get(node.op, ()) or place in _NUMBERS.get(node.op, ()):
                raise Unsupported(f"its input {place} must be constant; simplify the file (onnxsim)")
        elif value is not None:
            _check_constant(node, place, value)
    _check_layer(node, inputs)
    return handler


def _check_constant(node: OnnxNode, place: int, value: Array) -> None:
    if place in _INTEGERS.get(node.op, ()):
        if value.dtype.kind not in "iu" or value.size > _MOST or value.ndim > 1:
            raise Unsupported(f"its input {place} is not a list of integers")
        return
    if place in _NUMBERS.get(node.op, ()):
        if value.size != 1:
            raise Unsupported(f"its input {place} must be one number, not {value.size}")
        if np.isnan(value).any():
            raise Unsupported(f"its constant input {place} is NaN")
        return
    if value.dtype.kind == "f" and not np.isfinite(value).all():
        raise Unsupported(f"its constant input {place} holds NaN or infinity")
    rank = _RANKS.get(node.op, {}).get(place)
    if rank is not None and value.ndim != rank:
        raise Unsupported(f"its input {place} of shape {value.shape} must have {rank} dimensions")
    if not value.size:
        raise Unsupported(f"its constant input {place} is empty")


def _check_layer(node: OnnxNode, inputs: Sequence[Value | None]) -> None:
    """Biases, parameters of batch norm, and what is joined with values, against what they belong to."""
    if node.op == "Concat":
        _check_joined(node, inputs)
    x, *constants = inputs
    arrays = [value for value in constants if isinstance(value, np.ndarray)]
    if node.op == "BatchNormalization" and isinstance(x, Translation):
        if any(array.shape != x.shape[:1] for array in arrays):
            raise Unsupported(f"its parameters are not of {x.shape[0]} channels")
        if len(arrays) == 4 and not bool((arrays[3] + node.get("epsilon", 1e-5) > 0).all()):
            raise Unsupported("its variance is not positive everywhere")
    elif node.op in ("Conv", "Gemm") and len(arrays) == 2:
        weight, bias = arrays
        outputs = weight.shape[0] if node.op == "Conv" or node.get("transB", 0) else weight.shape[1]
        if bias.size not in ((1, outputs) if node.op == "Gemm" else (outputs,)) or bias.shape[:-1] not in ((), (1,)):
            raise Unsupported(f"its bias of shape {bias.shape} is not that of {outputs} outputs")


def _check_joined(node: OnnxNode, inputs: Sequence[Value | None]) -> None:
    value = next((value for value in inputs if isinstance(value, Translation)), None)
    for array in inputs:
        if array is None:
            raise Unsupported("it joins an input that is left out")
        if isinstance(array, np.ndarray) and (
            value is None
            or array.ndim != len(value.shape) + 1
            or array.shape[0] not in (1, node.batch)
            or array.shape[2:] != value.shape[1:]
        ):
            shape = "a stack" if value is None else f"images of {value.shape}"
            raise Unsupported(f"a constant of shape {array.shape} cannot be joined with {shape}")
