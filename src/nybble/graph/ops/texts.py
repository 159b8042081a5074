"""Attributes and values of nodes as text."""

from __future__ import annotations

from collections.abc import Sequence

from nybble.graph.nodes import Padding, Pair
from nybble.graph.value_type import ValueType


def extents(shape: Sequence[int]) -> str:
    """``64x56x56``."""
    return "x".join(map(str, shape))


def shown(values: Sequence[ValueType], between: str) -> str:
    """``u4 + s8 64x56x56``; each value with its shape where shapes differ."""
    if len({value.shape for value in values}) == 1:
        return f"{between.join(value.dtype.value for value in values)} {extents(values[0].shape)}"
    return between.join(f"{value.dtype.value} {extents(value.shape)}" for value in values)


def window_details(
    kernel_size: Pair | None, stride: Pair, padding: Padding, dilation: Pair = Pair(1, 1), groups: int = 1
) -> list[str]:
    """``kernel 3``, ``stride 2``, ``pad 1`` and so on, where they are not 1, or 0 for the padding.

    ``kernel_size`` is ``None`` where the shape of the weights shows it.
    """
    sides: tuple[int, ...] = padding[:2] if padding.is_symmetric else padding
    parts: list[tuple[str, tuple[int, ...]]] = [] if kernel_size is None else [("kernel", kernel_size)]
    parts += [
        (name, values)
        for name, values, usual in (("stride", stride, 1), ("pad", sides, 0), ("dilation", dilation, 1))
        if set(values) != {usual}
    ]
    details = [f"{name} {values[0] if len(set(values)) == 1 else ','.join(map(str, values))}" for name, values in parts]
    return details if groups == 1 else [*details, f"groups {groups}"]
