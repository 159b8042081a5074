"""The meaning of one step of a result, and constants in other units."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

from nybble.graph.errors import GraphError
from nybble.graph.tensor import Tensor
from nybble.graph.types import SUM_LIMIT, DType

if TYPE_CHECKING:
    from fractions import Fraction

#: The 8-bit types that replace 4-bit types.
WIDER = {DType.U4: DType.U7, DType.S4: DType.S8}


class Unit(Enum):
    """The unit of a result in terms of the units of the inputs."""

    #: The unit of the input; codes are copied or averaged, and their type stays the same.
    INPUT = "input"
    #: The unit of the input times that of the weights.
    WEIGHTED = "weighted"
    #: The product of the units of both inputs.
    PRODUCT = "product"
    #: The unit of the inputs, which must agree: sums are added.
    JOINT = "joint"
    #: Any unit.
    OWN = "own"
    #: The unit 1: the result is real.
    REAL = "real"


def wider_weights(weight: Tensor) -> Tensor:
    """The same weights, in 8 bits where they had four."""
    return Tensor.from_array(DType.S8, weight.numpy()) if weight.dtype in WIDER else weight


def converted_bias(bias: Tensor | None, ratio: Fraction, name: str) -> Tensor | None:
    """The bias of the node ``name`` in new units of the sums. Raises GraphError if it passes 32 bits."""
    if bias is None or ratio == 1:
        return bias
    values = [rounded(int(value) * ratio) for value in bias.numpy()]
    if max(map(abs, values)) > SUM_LIMIT:
        raise GraphError("at 8 bits, a bias exceeds the 32-bit limit", node=name, field="bias")
    array = np.array(values, np.int64)
    fits = all(DType.S16.minimum <= value <= DType.S16.maximum for value in values)
    return Tensor.from_array(bias.dtype if fits else DType.S32, array)


def rounded(value: Fraction) -> int:
    """To the nearest integer, halves away from zero."""
    result = (2 * abs(value.numerator) + value.denominator) // (2 * value.denominator)
    return result if value >= 0 else -result
