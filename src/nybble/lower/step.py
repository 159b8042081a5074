"""One fused layer: what it reads and writes, with types, shapes and bounds, and what it computes on the way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from nybble.graph import (
    Add,
    AvgPool2d,
    Concat,
    Conv2d,
    Graph,
    Linear,
    MaxPool2d,
    Node,
    Padding,
    Pair,
    Quantize,
    ReLU,
    Scale,
    ValueType,
)
from nybble.graph.types import SUMS


class Pool(NamedTuple):
    """Windows of a pool. Where ``ceil_mode`` matters is in the extents of the result."""

    average: bool
    kernel_size: Pair
    stride: Pair
    padding: Padding
    dilation: Pair
    count_padding: bool


@dataclass
class Step:
    """Nodes that run as one: a head, then what its epilogue does before the result is stored.

    ``source`` is the value the head reads (the first, if it reads several), ``output`` the one that is stored; values
    between them never exist in memory. ``shortcut`` is the value that ``add`` adds to the sums, through
    ``shortcut_quantize`` where the graph rescales it first. ``reads`` are all values that the step reads.
    """

    graph: Graph = field(repr=False)
    head: Node
    source: str
    output: str
    nodes: list[Node]
    add: Add | None = None
    shortcut: str | None = None
    shortcut_quantize: Quantize | None = None
    relu: ReLU | None = None
    quantize: Quantize | None = None
    reads: list[str] = field(default_factory=list)

    @property
    def kind(self) -> str:
        """``conv``, ``pool``, ``concat``, ``scale``, ``point`` (element by element), or ``other``: not known here."""
        match self.head:
            case Conv2d() | Linear():
                return "conv"
            case MaxPool2d() | AvgPool2d():
                return "pool"
            case Concat():
                return "concat"
            case Scale():
                return "scale"
            case Add() | ReLU() | Quantize():
                return "point"
            case _:
                return "other"

    @property
    def weighted(self) -> Conv2d | Linear | None:
        """The convolution or linear layer that is the head, if it is one."""
        return self.head if isinstance(self.head, Conv2d | Linear) else None

    @property
    def groups(self) -> int:
        """Groups of channels of a convolution; 1 of all else."""
        return self.head.groups if isinstance(self.head, Conv2d) else 1

    @property
    def pool(self) -> Pool | None:
        """The windows of the pool that is the head, if it is one."""
        match self.head:
            case MaxPool2d() as head:
                return Pool(False, head.kernel_size, head.stride, head.padding, head.dilation, False)
            case AvgPool2d() as head:
                counted = head.count_include_pad
                return Pool(True, head.kernel_size, head.stride, head.padding, Pair(1, 1), counted)
            case _:
                return None

    @property
    def scale(self) -> Scale | None:
        """The scale of the logits that is the head, if it is one."""
        return self.head if isinstance(self.head, Scale) else None

    @property
    def input(self) -> ValueType:
        """Type, shape and magnitude of ``source``."""
        return self.graph.values[self.source]

    @property
    def result(self) -> ValueType:
        """Type, shape and magnitude of ``output``."""
        return self.graph.values[self.output]

    @property
    def sum_bound(self) -> int:
        """Largest magnitude of a 32-bit sum between head and requantization, a rescaled shortcut included."""
        values = (self.graph.values[node.name] for node in self.nodes if node is not self.quantize)
        return max((value.magnitude for value in values if value.dtype in SUMS), default=self.input.magnitude)
