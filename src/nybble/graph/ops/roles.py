"""Roles that nodes of several operations have: the interfaces that parts of the package use."""

from __future__ import annotations

from typing import Protocol

from nybble.graph.tensor import Tensor
from nybble.graph.types import DType


class Named(Protocol):
    """Any node, as a role sees it."""

    @property
    def name(self) -> str:
        """Its name, which is also its result's."""
        ...

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the values that it reads."""
        ...


class Weighted(Named, Protocol):
    """A layer whose result is sums of products with constant weights, out channels first, plus a bias."""

    @property
    def input_type(self) -> DType:
        """The activation type or type of sums that it reads."""
        ...

    @property
    def weight(self) -> Tensor:
        """s4 or s8, out channels first."""
        ...

    @property
    def bias(self) -> Tensor | None:
        """s16 or s32 (out channels), or ``None``."""
        ...


class Requantization(Named, Protocol):
    """``x * factor[channel] / 2**shift``, rounded with halves away from zero, in the range of the output type."""

    @property
    def input_type(self) -> DType:
        """The activation type or type of sums that it reads."""
        ...

    @property
    def output_type(self) -> DType:
        """The type of the result."""
        ...

    @property
    def factor(self) -> Tensor:
        """u16 or u32 (channels)."""
        ...

    @property
    def shift(self) -> int:
        """0 to 31."""
        ...
