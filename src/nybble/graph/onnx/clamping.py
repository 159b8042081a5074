"""Any clip of an activation's integers, composed of operations that the engine has."""

from __future__ import annotations

import numpy as np

from nybble.graph.onnx.new_nodes import NewNodes
from nybble.graph.onnx.rewriting import pointwise
from nybble.graph.onnx.values import Real
from nybble.graph.ops import ReLU
from nybble.graph.tensor import Tensor
from nybble.graph.types import Array, DType

#: Types of activations, narrow ones first.
TYPES = (DType.U4, DType.S4, DType.U7, DType.S8, DType.U8)


def type_of(low: int, high: int) -> DType | None:
    """The activation type with these bounds."""
    return next((dtype for dtype in TYPES if (dtype.minimum, dtype.maximum) == (low, high)), None)


def holding(low: int, high: int) -> DType:
    """The narrowest activation type that holds all of a range of -128..127 or 0..255."""
    return next(dtype for dtype in TYPES if dtype.minimum <= low and high <= dtype.maximum)


def clamp(build: NewNodes, value: str, low: Array | int, high: Array | int, name: str) -> str:
    """Clip an activation to bounds for all channels or for each; exact.

    Types clip at their own bounds. Other bounds need a ReLU with a maximum if the lower bound is 0. Otherwise the
    integers are moved up, so that 0 of an unsigned type is the lower bound, and down again.

    Parameters
    ----------
    build : NewNodes
    value : str
        An activation.
    low, high : int or array
        Numbers, or one per channel; ``low <= high``.
    name : str
        What to call the nodes after.
    """
    held = build.types[value].dtype
    channels = build.types[value].shape[0]
    least = np.broadcast_to(np.clip(low, held.minimum, held.maximum), (channels,)).astype(np.int64)
    most = np.broadcast_to(np.clip(high, held.minimum, held.maximum), (channels,)).astype(np.int64)
    if np.all(least == held.minimum) and np.all(most == held.maximum):
        return value
    bottom, top = int(least.min()), int(most.max())
    if np.all(least == bottom) and np.all(most == top):
        target = type_of(bottom, top)
        if target is not None:
            return build.retyped(value, target, f"{name}_clipped")
        if bottom == 0:
            return _cut(build, value, top, name)
    target = holding(bottom, top)
    if np.any(most - least != most[0] - least[0]):
        # Upper bounds come first: they become 255, the largest value of u8.
        moved = _moved(build, value, 255 - most, f"{name}_up")
        value = _stored(build, moved, DType.U8, f"{name}_topped")
        above = 255 - most
        moved = _moved(build, value, -above - least, f"{name}_down")
        value = _stored(build, moved, DType.U8, f"{name}_clipped")
    else:
        extent = int(most[0] - least[0])
        moved = _moved(build, value, -least, f"{name}_up")
        kind = type_of(0, extent)
        if kind is None:
            reads = build.types[moved].dtype
            moved = build.add(ReLU(name=build.free(f"{name}_clip"), inputs=(moved,), input_type=reads, maximum=extent))
            kind = holding(0, extent)
        value = _stored(build, moved, kind, f"{name}_clipped")
    return _stored(build, _moved(build, value, least, f"{name}_back"), target, f"{name}_stored")


def _moved(build: NewNodes, value: str, steps: Array, name: str) -> str:
    return pointwise(build, value, np.ones(len(steps), np.int64), steps.astype(np.float64), name)


def _stored(build: NewNodes, value: str, dtype: DType, name: str) -> str:
    ones = Tensor.from_array(DType.U16, np.ones(build.types[value].shape[0], int))
    return build.requantize(name, value, dtype, ones, 0)


def _cut(build: NewNodes, value: str, maximum: int, name: str) -> str:
    """Clip to 0 and a maximum: up to a sum, ReLU, and back."""
    lifted = build.lift(Real(value, np.ones(build.types[value].shape[0]), False)).value
    reads = build.types[lifted].dtype
    clipped = ReLU(name=build.free(f"{name}_clip"), inputs=(lifted,), input_type=reads, maximum=maximum)
    return _stored(build, build.add(clipped), holding(0, maximum), f"{name}_clipped")
