"""The typed nodes of a network. A node has one output, which carries the node's name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from nybble.graph.tensor import Tensor
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


@dataclass(frozen=True, kw_only=True, eq=False)
class Conv2d(Node):
    """Exact integer convolution: 32-bit sum of products plus bias; zero padding, zero point 0.

    ``weight`` is (out channels, in channels / groups, rows, columns), s4 or s8; ``bias`` (out
    channels), s16 or s32, or ``None``. Input (C, H, W) of an activation type, output s32.
    """

    input_type: DType
    weight: Tensor
    bias: Tensor | None = None
    stride: Pair = Pair(1, 1)
    padding: Padding = Padding()
    dilation: Pair = Pair(1, 1)
    groups: int = 1

    @property
    def out_channels(self) -> int:
        """Channels of the output."""
        return self.weight.shape[0]

    @property
    def in_channels(self) -> int:
        """Channels of the input, over all groups."""
        return self.weight.shape[1] * self.groups

    @property
    def kernel_size(self) -> Pair:
        """Rows and columns of the window."""
        return Pair(self.weight.shape[2], self.weight.shape[3])


@dataclass(frozen=True, kw_only=True, eq=False)
class Linear(Node):
    """Exact integer matrix product plus bias. ``weight`` is (out, in); a (C, H, W) input is read flat."""

    input_type: DType
    weight: Tensor
    bias: Tensor | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class ReLU(Node):
    """``max(0, x)``, and ``min(maximum, .)`` where a maximum is given. s32 or u31 in, u31 out."""

    input_type: DType = DType.S32
    maximum: int | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Quantize(Node):
    """Requantize: ``v = x * factor[channel]``, ``sign(v) * ((|v| + 2**(shift-1)) >> shift)``, clamped.

    Shift 0 leaves ``v`` as it is. ``factor`` is (channels), u16 or u32; ties go away from zero.
    """

    input_type: DType
    output_type: DType
    factor: Tensor
    shift: int


@dataclass(frozen=True, kw_only=True, eq=False)
class MaxPool2d(Node):
    """Largest value of each window; padding never wins. Type and channels stay."""

    input_type: DType
    kernel_size: Pair
    stride: Pair
    padding: Padding = Padding()
    dilation: Pair = Pair(1, 1)
    ceil_mode: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class AvgPool2d(Node):
    """``floor((2 * sum + n) / (2 * n))`` of each window; ``n`` counts padding if asked to. Type stays."""

    input_type: DType
    kernel_size: Pair
    stride: Pair
    padding: Padding = Padding()
    ceil_mode: bool = False
    count_include_pad: bool = True


@dataclass(frozen=True, kw_only=True, eq=False)
class Add(Node):
    """Exact sum of two 32-bit tensors of one shape. s32 or u31 in, s32 out."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Concat(Node):
    """The channels of two or more values, one after the other: all of one activation type and one size. Type stays.

    Codes are copied as they are, so what one step of them stands for must be the same in all of them.
    """

    input_type: DType


@dataclass(frozen=True, kw_only=True, eq=False)
class Scale(Node):
    """Logits: float32(x) divided by float32 ``out_scale`` of the channel."""

    out_scale: Tensor


@dataclass(frozen=True, kw_only=True)
class Input:
    """A graph input: its name, element type and shape (C, H, W), batch excluded."""

    name: str
    dtype: DType
    shape: tuple[int, ...]
