"""Parts of the operations' examples: types of inputs and drawn tensors."""

from __future__ import annotations

import numpy as np

from nybble.graph.tensor import Tensor
from nybble.graph.types import DType
from nybble.graph.value_type import ValueType

#: Largest magnitude of the sums that examples read. With the factors drawn for them, results reach the clips.
SUM_MAGNITUDE = 1 << 12


def activation(dtype: DType, *shape: int) -> ValueType:
    """A value of an activation type, over its whole range."""
    return ValueType(dtype, shape, dtype.magnitude)


def sums(dtype: DType, *shape: int, magnitude: int = SUM_MAGNITUDE) -> ValueType:
    """A value of a type of sums."""
    return ValueType(dtype, shape, magnitude)


def drawn(random: np.random.Generator, dtype: DType, *shape: int, low: int | None = None) -> Tensor:
    """A tensor of integers over the whole range of the type, or from ``low`` on."""
    values = random.integers(dtype.minimum if low is None else low, dtype.maximum, shape, endpoint=True)
    return Tensor.from_array(dtype, values)
