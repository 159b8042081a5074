"""What inference determines for a value, and the limits of every value."""

from __future__ import annotations

from dataclasses import dataclass

from nybble.graph.types import DType

#: Largest extent of any dimension; far above any image network, far below what overflows an index.
MAX_EXTENT = 1 << 16
#: Largest number of elements of one value of one image.
MAX_ELEMENTS = 1 << 28
MAX_SHIFT = 31


@dataclass(frozen=True)
class ValueType:
    """The inferred facts about a value: element type, shape without batch, and largest magnitude."""

    dtype: DType
    shape: tuple[int, ...]
    magnitude: int

    def __str__(self) -> str:
        return f"{self.dtype}[{'x'.join(map(str, self.shape))}]"
