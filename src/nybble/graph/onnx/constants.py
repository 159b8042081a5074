"""Operators on constants are computed during the import, so that constants may be given in any form.

The importer counts the elements with :func:`size_of` before it computes them, so that a small file cannot use much
memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import onnx
from onnx import TensorProto

from nybble.graph.onnx.errors import OnnxImportError
from nybble.graph.onnx.load import attribute, label, values_of
from nybble.graph.onnx.values import Constant
from nybble.graph.types import Array, DType
from nybble.graph.value_type import MAX_ELEMENTS

#: NumPy's type for what Cast makes; four bits are held in eight, as :func:`values_of` gives them.
_CASTS: dict[int, type[np.generic]] = {
    TensorProto.FLOAT: np.float32,
    TensorProto.FLOAT16: np.float16,
    TensorProto.BFLOAT16: np.float32,
    TensorProto.DOUBLE: np.float64,
    TensorProto.INT4: np.int8,
    TensorProto.UINT4: np.uint8,
    TensorProto.INT8: np.int8,
    TensorProto.UINT8: np.uint8,
    TensorProto.INT16: np.int16,
    TensorProto.UINT16: np.uint16,
    TensorProto.INT32: np.int32,
    TensorProto.INT64: np.int64,
}
#: Reads the attribute lists of a Constant.
_LISTS = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)
MAX_RANK = 8


def size_of(node: onnx.NodeProto, inputs: Sequence[Constant | None]) -> int:
    """Most elements that :func:`fold` makes; 0 if the shapes do not fit, which :func:`fold` reports."""
    shapes = [entry.real.shape for entry in inputs if entry is not None]
    if node.op_type not in _ELEMENTS:
        return sum(math.prod(shape) for shape in shapes)
    try:
        return math.prod(np.broadcast_shapes(*shapes))
    except ValueError:
        return 0


def fold(node: onnx.NodeProto, inputs: Sequence[Constant | None]) -> Constant | None:
    """The result of a node with constant inputs; ``None`` if this operator is not computed here.

    Parameters
    ----------
    node : onnx.NodeProto
    inputs : sequence of Constant or None
        ``None`` where an optional input is left out.

    Raises
    ------
    OnnxImportError
        If its inputs or attributes are not those of the operator.
    """
    if node.op_type == "Constant":
        return _constant(node)
    if not inputs or inputs[0] is None:
        return None
    known = [entry for entry in inputs if entry is not None]
    if node.op_type in _SHAPES:
        return _SHAPES[node.op_type](node, known)
    if node.op_type == "Cast":
        return _cast(node, known[0])
    if node.op_type == "Clip":
        return _clip(node, inputs)
    if node.op_type in _ELEMENTS:
        return _elements(node, known)
    return None


def _refuse(node: onnx.NodeProto, text: str) -> OnnxImportError:
    return OnnxImportError(f"{node.op_type} of a constant: {text}", node=label(node))


def _constant(node: onnx.NodeProto) -> Constant:
    for entry in node.attribute:
        if entry.name == "value" and entry.type == onnx.AttributeProto.TENSOR:
            return Constant(values_of(entry.t, label(node)), entry.t.data_type)
        if entry.name in _LISTS:
            kind = TensorProto.FLOAT if "float" in entry.name else TensorProto.INT64
            found = onnx.helper.get_attribute_value(entry)
            if not isinstance(found, int | float | Sequence) or isinstance(found, str | bytes):
                break
            return Constant(np.asarray(found, _LISTS[entry.name]), kind)
    raise OnnxImportError("a Constant without a numeric value", node=label(node))


# The same values in another shape


def _moved(found: Constant, move: Callable[[Array], Array]) -> Constant:
    """A constant whose elements change places: integers and scales go along."""
    if found.integers is None or found.scale is None:
        return replace(found, real=move(found.real))
    full = np.broadcast_to(found.scale, found.real.shape)
    return replace(found, real=move(found.real), integers=move(found.integers), scale=move(full))


def _whole(node: onnx.NodeProto, given: Sequence[Constant], name: str, default: list[int]) -> list[int]:
    """A list of integers: a second input, else an attribute."""
    if len(given) > 1:
        values = given[1].real
        if values.dtype.kind not in "iu" or values.size > MAX_RANK:
            raise _refuse(node, f"{name} are not a short list of integers")
        return [int(value) for value in values.reshape(-1)]
    return attribute(node, name, default)


def _identity(node: onnx.NodeProto, given: Sequence[Constant]) -> Constant:
    return given[0]


def _transpose(node: onnx.NodeProto, given: Sequence[Constant]) -> Constant:
    rank = given[0].real.ndim
    order = attribute(node, "perm", list(range(rank))[::-1])
    if sorted(order) != list(range(rank)):
        raise _refuse(node, f"perm={order[:8]} is not an order of {rank} dimensions")
    return _moved(given[0], lambda array: array.transpose(order))


def _reshape(node: onnx.NodeProto, given: Sequence[Constant]) -> Constant:
    old = given[0].real.shape
    target = _whole(node, given, "shape", [0][:0])
    if not attribute(node, "allowzero", 0):
        target = [old[index] if size == 0 and index < len(old) else size for index, size in enumerate(target)]
    rest = math.prod(size for size in target if size != -1)
    if target.count(-1) == 1 and rest > 0:
        target[target.index(-1)] = given[0].real.size // rest
    if min(target, default=0) < 0 or math.prod(target) != given[0].real.size:
        raise _refuse(node, f"shape {target} does not hold {given[0].real.size} elements")
    return _moved(given[0], lambda array: array.reshape(target))


def _flatten(node: onnx.NodeProto, given: Sequence[Constant]) -> Constant:
    shape = given[0].real.shape
    axis = attribute(node, "axis", 1)
    if not -len(shape) <= axis <= len(shape):
        raise _refuse(node, f"axis {axis} of {len(shape)} dimensions")
    axis += len(shape) if axis < 0 else 0
    return _moved(given[0], lambda array: array.reshape(math.prod(shape[:axis]), math.prod(shape[axis:])))


def _squeeze(node: onnx.NodeProto, given: Sequence[Constant]) -> Constant:
    shape = given[0].real.shape
    axes = _whole(node, given, "axes", [axis for axis, size in enumerate(shape) if size == 1])
    if any(not -len(shape) <= axis < len(shape) or shape[axis] != 1 for axis in axes):
        raise _refuse(node, f"axes {axes} of shape {shape} are not 1")
    gone = {axis % len(shape) for axis in axes}
    kept = [size for axis, size in enumerate(shape) if axis not in gone]
    return _moved(given[0], lambda array: array.reshape(kept))


def _unsqueeze(node: onnx.NodeProto, given: Sequence[Constant]) -> Constant:
    axes = _whole(node, given, "axes", [0][:0])
    rank = given[0].real.ndim + len(axes)
    if (
        rank > MAX_RANK
        or any(not -rank <= axis < rank for axis in axes)
        or len({axis % rank for axis in axes}) < len(axes)
    ):
        raise _refuse(node, f"axes {axes[:8]} do not fit {rank} dimensions")
    shape = list(given[0].real.shape)
    for axis in sorted(axis % rank for axis in axes):
        shape.insert(axis, 1)
    return _moved(given[0], lambda array: array.reshape(shape))


def _shape(node: onnx.NodeProto, given: Sequence[Constant]) -> Constant:
    if attribute(node, "start", 0) or any(entry.name == "end" for entry in node.attribute):
        raise _refuse(node, "start and end are not supported")
    return Constant(np.asarray(given[0].real.shape, np.int64), TensorProto.INT64)


def _gather(node: onnx.NodeProto, given: Sequence[Constant]) -> Constant:
    axis = attribute(node, "axis", 0)
    data, index = given[0].real, given[1].real if len(given) > 1 else np.zeros(0)
    if data.ndim != 1 or axis not in (0, -1) or index.dtype.kind not in "iu" or index.ndim > 1:
        raise _refuse(node, "only elements of a list are supported")
    if index.size > data.size or np.any(index < -data.size) or np.any(index >= data.size):
        raise _refuse(node, "an index is out of range")
    return Constant(np.asarray(data[index]), given[0].kind, is_symbolic=given[0].is_symbolic)


def _concat(node: onnx.NodeProto, given: Sequence[Constant]) -> Constant:
    parts = [entry.real for entry in given]
    axis = attribute(node, "axis", 0)
    rank = parts[0].ndim
    if not rank or not -rank <= axis < rank or any(part.ndim != rank for part in parts):
        raise _refuse(node, "its parts do not fit one another")
    axis %= rank
    if len({part.shape[:axis] + part.shape[axis + 1 :] for part in parts}) != 1:
        raise _refuse(node, "its parts do not fit one another")
    return Constant(np.concatenate(parts, axis), given[0].kind, is_symbolic=any(entry.is_symbolic for entry in given))


def _reduce(node: onnx.NodeProto, given: Sequence[Constant]) -> Constant:
    """The largest value per channel, from which scales are often computed."""
    values = given[0].real
    axes = _whole(node, given, "axes", list(range(values.ndim)))
    if (
        any(not -values.ndim <= axis < values.ndim for axis in axes)
        or not values.size
        or values.dtype.kind not in "iuf"
    ):
        raise _refuse(node, f"over axes {axes[:8]} of shape {values.shape}")
    if not axes and not attribute(node, "noop_with_empty_axes", 0):
        axes = list(range(values.ndim))
    over = tuple({axis % values.ndim for axis in axes})
    with np.errstate(all="ignore"):
        result = _REDUCTIONS[node.op_type](values, axis=over, keepdims=bool(attribute(node, "keepdims", 1)))
    return Constant(np.asarray(result).astype(values.dtype), given[0].kind)


_REDUCTIONS: dict[str, Callable[..., Array]] = {
    "ReduceMax": np.max,
    "ReduceMean": np.mean,
    "ReduceMin": np.min,
    "ReduceSum": np.sum,
}
_SHAPES: dict[str, Callable[[onnx.NodeProto, Sequence[Constant]], Constant]] = {
    "Concat": _concat,
    "Dropout": _identity,
    "Flatten": _flatten,
    "Gather": _gather,
    "Identity": _identity,
    **dict.fromkeys(_REDUCTIONS, _reduce),
    "Reshape": _reshape,
    "Shape": _shape,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}


# Other values


def _cast(node: onnx.NodeProto, found: Constant) -> Constant:
    kind = attribute(node, "to", 0)
    if kind not in _CASTS:
        raise _refuse(node, f"to element type {kind} is not supported")
    if found.integers is not None and kind in _FLOATS:
        return replace(found, kind=kind)
    target = np.dtype(_CASTS[kind])
    if target.kind in "iu" and not np.all(np.isfinite(found.real)):
        raise _refuse(node, "NaN and infinity are not integers")
    with np.errstate(all="ignore"):
        return Constant(found.real.astype(target), kind, bounds=found.bounds, is_symbolic=found.is_symbolic)


def _clip(node: onnx.NodeProto, given: Sequence[Constant | None]) -> Constant:
    found = given[0]
    if found is None:
        raise _refuse(node, "it lacks its input")
    low, high = (given[index] if len(given) > index else None for index in (1, 2))
    named = {entry.name for entry in node.attribute}
    bounds: list[Array | None] = [None if entry is None else entry.real for entry in (low, high)]
    for index, name in enumerate(("min", "max")):
        if bounds[index] is None and name in named:
            bounds[index] = np.asarray(attribute(node, name, 0.0))
    given_bounds = [bound for bound in bounds if bound is not None]
    if any(bound.size != 1 or np.isnan(bound).any() for bound in given_bounds):
        raise _refuse(node, "a bound is not one number")
    if any((bound.dtype.kind == "f") != (found.real.dtype.kind == "f") for bound in given_bounds):
        raise _refuse(node, "a bound is of another type")
    least, most = (None if bound is None else bound.reshape(()).astype(found.real.dtype) for bound in bounds)
    clipped = found.real
    if least is not None:
        clipped = np.maximum(clipped, least)
    if most is not None:
        clipped = np.minimum(clipped, most)
    if found.integers is not None:
        # Of real numbers: values that the clip does not change keep their integers.
        return found if np.array_equal(clipped, found.real) else Constant(clipped, found.kind)
    if clipped.dtype.kind not in "iu":
        return replace(found, real=clipped)
    limits = np.iinfo(clipped.dtype)
    own = (limits.min if least is None else int(least), limits.max if most is None else int(most))
    before = found.bounds or (limits.min, limits.max)
    return replace(found, real=clipped, bounds=(max(own[0], before[0]), min(own[1], before[1])))


def _divided(left: Array, right: Array) -> Array:
    if left.dtype.kind in "iu":
        safe = np.where(right == 0, 1, right)
        quotient: Array = (np.abs(left) // np.abs(safe) * np.sign(left) * np.sign(safe)).astype(left.dtype)
        return quotient
    divided: Array = left / right
    return divided


#: NumPy's form of each, and how many inputs it takes; 0 for any number.
_ELEMENTS: dict[str, tuple[Callable[..., Array], int]] = {
    "Abs": (np.abs, 1),
    "Add": (np.add, 2),
    "Ceil": (np.ceil, 1),
    "Div": (_divided, 2),
    "Exp": (np.exp, 1),
    "Floor": (np.floor, 1),
    "Max": (np.maximum, 0),
    "Min": (np.minimum, 0),
    "Mul": (np.multiply, 2),
    "Neg": (np.negative, 1),
    "Pow": (np.power, 2),
    "Reciprocal": (np.reciprocal, 1),
    "Relu": (lambda values: np.maximum(values, 0), 1),
    "Round": (np.rint, 1),
    "Sqrt": (np.sqrt, 1),
    "Sub": (np.subtract, 2),
}

#: The operators that are computed here.
FOLDED = frozenset({"Constant", "Cast", "Clip", *_SHAPES, *_ELEMENTS})


def _elements(node: onnx.NodeProto, given: Sequence[Constant]) -> Constant:
    function, count = _ELEMENTS[node.op_type]
    if count and len(given) != count:
        raise _refuse(node, f"its {len(given)} inputs are not {count}")
    if any(entry.is_symbolic for entry in given):
        raise _refuse(node, "the size of the batch is not known")
    if len({entry.real.dtype.kind in "iu" for entry in given}) != 1 or any(
        entry.real.dtype.kind not in "iuf" for entry in given
    ):
        raise _refuse(node, "its inputs differ in type")
    if node.op_type in ("Pow", "Reciprocal", "Exp", "Sqrt") and given[0].real.dtype.kind != "f":
        raise _refuse(node, "of integers is not supported")
    try:
        shape = np.broadcast_shapes(*(entry.real.shape for entry in given))
    except ValueError as error:
        raise _refuse(node, "its inputs' shapes do not fit one another") from error
    if math.prod(shape) > MAX_ELEMENTS:
        raise _refuse(node, f"makes {shape}")
    with np.errstate(all="ignore"):
        result = np.asarray(given[0].real)
        result = function(result) if count == 1 else result
        for entry in given[1:]:
            result = function(result, entry.real)
    made = Constant(np.asarray(result), given[0].kind)
    return _scaled(node, given, made)


def _scaled(node: onnx.NodeProto, given: Sequence[Constant], made: Constant) -> Constant:
    """A product of a dequantized constant keeps its integers: the factor is merged into the scale."""
    if node.op_type not in ("Mul", "Div", "Neg"):
        return made
    held = [entry for entry in given if entry.integers is not None]
    if len(held) != 1 or held[0].real.shape != made.real.shape or (node.op_type == "Div" and held[0] is not given[0]):
        return made
    (found,) = held
    if found.integers is None or found.scale is None:
        return made
    factor = np.full((), -1.0)
    if len(given) == 2:
        other = (given[1] if given[0] is found else given[0]).real.astype(np.float64)
        if node.op_type == "Div" and np.any(other == 0):
            return made
        factor = other if node.op_type == "Mul" else 1.0 / other
    factor = np.broadcast_to(factor, found.real.shape) if factor.size > 1 else factor.reshape(())
    if not np.all(np.isfinite(factor)):
        return made
    integers = found.integers * np.where(factor < 0, -1, 1)
    # A change of sign may leave the range of a 4-bit type.
    limits = found.dtype if found.dtype is not DType.S4 or np.max(integers, initial=0) <= DType.S4.maximum else DType.S8
    return replace(made, integers=integers, dtype=limits, scale=found.scale * np.abs(factor))
