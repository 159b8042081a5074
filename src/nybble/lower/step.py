"""One fused layer: its inputs and its result, with types, shapes and bounds, and its computation."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, TypeVar

from nybble.graph import Add, DType, Node, Padding, Pair, PReLU, Quantize, ReLU, Table, Tensor
from nybble.graph.types import Array

B = TypeVar("B")


@dataclass(frozen=True)
class Value:
    """A value that is stored between steps.

    Attributes
    ----------
    name : str
    dtype : DType
    shape : tuple of int
        (C, H, W) or (C,), without batch.
    magnitude : int
        Largest absolute value that an element can have.
    is_input, is_output : bool
        Whether the network reads or returns it.
    clip : int or None
        Largest absolute value that clamps leave, for any weights; ``None``: only the type bounds it. See
        :func:`~nybble.lower.clips.clips`.
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]
    magnitude: int
    is_input: bool = False
    is_output: bool = False
    clip: int | None = None

    @property
    def clipped(self) -> tuple[int, int]:
        """Least and largest value by the type and by clips; 0 is among them."""
        most = self.dtype.magnitude if self.clip is None else self.clip
        return max(self.dtype.minimum, -most), min(self.dtype.maximum, most)

    def __str__(self) -> str:
        return f"{self.dtype}[{'x'.join(map(str, self.shape))}]"


class Channels(Enum):
    """How channels of a step's result depend on those of its inputs, which limits the orders they may be stored in."""

    #: Each channel depends on all channels of the source, through its own weights. Both may be stored in any order.
    MIXED = "mixed"
    #: Each channel depends on the same channel of every input. All must be stored in the same order.
    KEPT = "kept"
    #: The result depends on the position of channels, so that all keep the graph's order.
    FIXED = "fixed"


class Window(NamedTuple):
    """Geometry of a window that moves over rows and columns."""

    kernel_size: Pair
    stride: Pair = Pair(1, 1)
    padding: Padding = Padding()
    dilation: Pair = Pair(1, 1)


@dataclass(frozen=True)
class Conv:
    """Weights of a convolution; a linear layer is one whose window is its whole input.

    Attributes
    ----------
    weight : Tensor
        (outputs, inputs of a group, rows, columns), or (outputs, inputs) of a linear layer: see :meth:`weights`.
    bias : Tensor or None
        (outputs,), in units of the sums.
    window : Window
    groups : int
    """

    weight: Tensor
    bias: Tensor | None
    window: Window
    groups: int = 1

    def weights(self) -> Array:
        """(outputs, inputs of a group, rows, columns) integers."""
        # The inputs of a linear layer, a flattened (C, H, W), have the order of a kernel that covers the input.
        return self.weight.numpy().reshape(self.weight.shape[0], -1, *self.window.kernel_size)


@dataclass(frozen=True)
class Pool:
    """Windows of a pool. Where ``ceil_mode`` matters is in the extents of the result."""

    average: bool
    window: Window
    count_padding: bool = False


@dataclass
class Step:
    """Nodes that run as one: a head, then the epilogue, which changes the result before it is stored.

    Attributes
    ----------
    kind : str
        How the step is computed: ``conv``, ``pool``, ``concat``, ``scale``, ``point`` (element by element), ``table``,
        ``mul``, one that another package registers, or ``other`` for a node that no lowering is registered for.
    head : Node
    nodes : list of Node
        The head, then those that were fused.
    inputs : list of Value
        All values that it reads: those of the head, then the shortcut.
    result : Value
        The value that is stored; values between head and result never exist in memory.
    body : object
        The parameters of the head, in the form of its kind: :class:`Conv`, :class:`Pool`, a tensor of scales or a
        table.
    channels : Channels
        Of the head. A shortcut always has the order of the result.
    macs : int
        Multiply-accumulates of one image.
    sum_bound : int
        Largest magnitude of a 32-bit sum that is read or computed, including a rescaled shortcut, before it is
        requantized; 0 without sums.
    add, shortcut, shortcut_quantize
        ``shortcut`` is the value that ``add`` adds to the sums, through ``shortcut_quantize`` where the graph
        rescales it first.
    input_quantize
        Rescales :attr:`input` before the head of a ``point`` or ``scale`` step reads it; its clamp has no effect.
    relu, quantize, table
        The parts that follow, in this order; a ``point`` step may also begin with one. ``quantize`` may be a PReLU,
        which requantizes values below zero by other factors, ``negative_factor`` (otherwise ``None``). ``table``
        replaces the codes that ``quantize`` produces.
    """

    kind: str
    head: Node
    nodes: list[Node]
    inputs: list[Value]
    result: Value
    body: object = None
    channels: Channels = Channels.FIXED
    macs: int = 0
    sum_bound: int = 0
    add: Add | None = None
    shortcut: Value | None = None
    shortcut_quantize: Quantize | None = None
    input_quantize: Quantize | None = None
    relu: ReLU | None = None
    quantize: Quantize | PReLU | None = None
    negative_factor: Tensor | None = None
    table: Table | None = None

    @property
    def input(self) -> Value:
        """The value that the head reads; the first, if it reads several."""
        return self.inputs[0]

    @property
    def source(self) -> str:
        """Name of :attr:`input`."""
        return self.inputs[0].name

    @property
    def output(self) -> str:
        """Name of :attr:`result`."""
        return self.result.name

    @property
    def reads(self) -> list[str]:
        """Names of :attr:`inputs`."""
        return [value.name for value in self.inputs]

    @property
    def conv(self) -> Conv | None:
        """The body of a ``conv`` step."""
        return self.body if isinstance(self.body, Conv) else None

    def body_as(self, form: type[B]) -> B:
        """The body, in the form that steps of this kind have."""
        if not isinstance(self.body, form):
            raise TypeError(f"{self.head.name}: the body of a {self.kind} step is not a {form.__name__}")
        return self.body
