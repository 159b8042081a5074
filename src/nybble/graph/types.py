"""Element types of tensors and parameters, as the model directory names them."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class DType(StrEnum):
    """An element type. ``u7`` and ``u31`` are stored in 8 and 32 bits and never negative."""

    U4 = "u4"
    U7 = "u7"
    U8 = "u8"
    S4 = "s4"
    S8 = "s8"
    S16 = "s16"
    U16 = "u16"
    U31 = "u31"
    S32 = "s32"
    U32 = "u32"
    F32 = "f32"

    @property
    def is_float(self) -> bool:
        """Whether this is the float type (the logits)."""
        return self is DType.F32

    @property
    def is_signed(self) -> bool:
        """Whether values may be negative."""
        return self.value[0] in "sf"

    @property
    def bits(self) -> int:
        """Bits in the name: 4 for both ``u4`` and ``s4``."""
        return int(self.value[1:])

    @property
    def magnitude_bits(self) -> int:
        """Bits without the sign: 7 for ``s8``. This is what ``output_bits`` records."""
        return self.bits - 1 if self.is_signed else self.bits

    @property
    def minimum(self) -> int:
        """Smallest value of an integer type."""
        return -(1 << (self.bits - 1)) if self.is_signed else 0

    @property
    def maximum(self) -> int:
        """Largest value of an integer type."""
        return (1 << self.magnitude_bits) - 1

    @property
    def magnitude(self) -> int:
        """Largest absolute value of an integer type."""
        return max(-self.minimum, self.maximum)

    @property
    def storage(self) -> np.dtype[Any]:
        """The little-endian NumPy dtype that holds decoded values."""
        return np.dtype(_STORAGE[self])


_STORAGE = {
    DType.U4: "u1",
    DType.U7: "u1",
    DType.U8: "u1",
    DType.S4: "i1",
    DType.S8: "i1",
    DType.S16: "<i2",
    DType.U16: "<u2",
    DType.U31: "<i4",
    DType.S32: "<i4",
    DType.U32: "<u4",
    DType.F32: "<f4",
}

#: Types that convolutions, linear layers and pools can read.
ACTIVATIONS = (DType.U4, DType.U7, DType.U8, DType.S4, DType.S8)
#: Types of sums: what convolutions, additions and ReLUs produce.
SUMS = (DType.S32, DType.U31)
#: Largest magnitude a 32-bit sum may reach.
SUM_LIMIT = (1 << 31) - 1
