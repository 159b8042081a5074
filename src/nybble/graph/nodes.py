"""The base of all nodes of a network. A node has one output, which has the node's name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from nybble.graph.types import DType


class Pair(NamedTuple):
    """A (rows, columns) attribute of a window."""

    rows: int
    columns: int


class Padding(NamedTuple):
    """Rows and columns added on each side."""

    top: int = 0
    left: int = 0
    bottom: int = 0
    right: int = 0

    @property
    def is_symmetric(self) -> bool:
        """Whether opposite sides agree, as the two-number form of the directory needs."""
        return self.top == self.bottom and self.left == self.right


@dataclass(frozen=True, kw_only=True, eq=False)
class Node:
    """What every node has: a name, which is also its output's, and the names of the values it reads."""

    name: str
    inputs: tuple[str, ...]

    @property
    def op(self) -> str:
        """The layer type as the model directory spells it."""
        return type(self).__name__


@dataclass(frozen=True, kw_only=True)
class Input:
    """A graph input: its name, element type and shape (C, H, W), batch excluded."""

    name: str
    dtype: DType
    shape: tuple[int, ...]
