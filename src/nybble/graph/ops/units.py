"""What one step of a result stands for, and constants in other steps."""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from nybble.graph.errors import GraphError
from nybble.graph.tensor import Tensor
from nybble.graph.types import SUM_LIMIT, DType

if TYPE_CHECKING:
    from fractions import Fraction

    from nybble.graph.ops.conv2d import Conv2d
    from nybble.graph.ops.linear import Linear

#: What becomes of four-bit types at eight bits.
WIDER = {DType.U4: DType.U7, DType.S4: DType.S8}

_Weighted = TypeVar("_Weighted", "Conv2d", "Linear")


class Unit(Enum):
    """What one step of a result stands for, in terms of a step of what is read."""

    #: The same; codes are copied or averaged, and their type stays.
    INPUT = "input"
    #: That of the input times that of the weights.
    WEIGHTED = "weighted"
    #: Those of both inputs multiplied.
    PRODUCT = "product"
    #: The same; sums are joined that must have one.
    JOINT = "joint"
    #: One of its own.
    OWN = "own"
    #: 1: the result is real.
    REAL = "real"


def with_wider_weights(node: _Weighted, input_type: DType, ratio: Fraction) -> _Weighted:
    """The node for an input of a wider type: weights keep their values, biases are in new units of the sums.

    Raises GraphError if a bias passes 32 bits.
    """
    weight = node.weight
    if weight.dtype in WIDER:
        weight = Tensor.from_array(DType.S8, weight.numpy())
    return replace(node, input_type=input_type, weight=weight, bias=_bias(node, ratio))


def _bias(node: Conv2d | Linear, ratio: Fraction) -> Tensor | None:
    if node.bias is None or ratio == 1:
        return node.bias
    values = [rounded(int(value) * ratio) for value in node.bias.numpy()]
    if max(map(abs, values)) > SUM_LIMIT:
        raise GraphError("at 8 bits, a bias passes the 32-bit limit", node=node.name, field="bias")
    array = np.array(values, np.int64)
    fits = all(DType.S16.minimum <= value <= DType.S16.maximum for value in values)
    return Tensor.from_array(node.bias.dtype if fits else DType.S32, array)


def rounded(value: Fraction) -> int:
    """To the nearest integer, halves away from zero."""
    result = (2 * abs(value.numerator) + value.denominator) // (2 * value.denominator)
    return result if value >= 0 else -result
