"""What the arguments of ATen operations say, in the words of the vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from nybble.graph import Padding, Pair
from nybble.quantize.ir.vocabulary import Unsupported


def pair_of(value: int | Sequence[int]) -> Pair:
    """Rows and columns, of one number for both or of two."""
    if isinstance(value, int):
        return Pair(value, value)
    return Pair(value[0], value[-1])


def sides_of(value: int | Sequence[int]) -> Padding:
    """The same padding on opposite sides."""
    rows, columns = pair_of(value)
    return Padding(rows, columns, rows, columns)


def check_type(dtype: Any) -> None:
    """Unsupported where a type is asked for that is not float32."""
    if isinstance(dtype, torch.dtype) and dtype is not torch.float32:
        raise Unsupported(
            f"it converts to {dtype}; the network must compute in float32: take the cast, or autocast, out"
        )
