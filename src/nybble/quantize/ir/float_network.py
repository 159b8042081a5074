"""A captured network: floating-point operations in execution order, as plain data."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from nybble.graph import Node, Padding, Pair
from nybble.graph.ops import operation_of
from nybble.graph.ops.pad_edges import surrounding
from nybble.graph.ops.real import real
from nybble.graph.ops.resize import nearest
from nybble.graph.ops.resize_bilinear import taps
from nybble.quantize.ir import pooling

#: Name of a network's input.
INPUT = "input"


@dataclass(kw_only=True)
class Op:
    """The base of all operations.

    Attributes
    ----------
    name : str
        That of the module it came from, or of the module that called a function.
    inputs : tuple of str
        Names of the values it reads.
    shape : tuple of int
        Of its result, without the batch.
    place : str
        The source line, as ``file:line: code``.
    keeps_codes : bool
        Whether its result consists of codes of its one input (or their averages), and so has the same step.
    input_bits : int or None
        Bits that its inputs need for any preset; ``None`` for no requirement.
    reads_codes : bool
        Whether its inputs get the bits that the preset has for activations.
    gives_sums : bool
        Whether its result exists in the integer network as exact sums, before they are rounded, so that a ReLU may
        follow.
    is_elementwise : bool
        Whether each element of the result is computed from the elements of the inputs at the same place.
    takes_shortcuts : bool
        Whether an addition may add to these sums as they are.
    """

    name: str
    inputs: tuple[str, ...]
    shape: tuple[int, ...]
    place: str = ""

    keeps_codes: ClassVar[bool] = False
    input_bits: ClassVar[int | None] = None
    reads_codes: ClassVar[bool] = False
    gives_sums: ClassVar[bool] = False
    is_elementwise: ClassVar[bool] = False
    takes_shortcuts: ClassVar[bool] = True

    def is_nonnegative(self, positive: Collection[str]) -> bool:
        """Whether its result is never negative, given that the values in ``positive`` are not."""
        return False

    def is_same_for_all_channels(self) -> bool:
        """Whether an elementwise operation treats all channels alike."""
        return True

    def to(self, device: torch.device | None) -> None:
        """Move its constants to the device of the module."""
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(self, name, value.to(device))

    def __call__(self, *values: Tensor) -> Tensor:
        """The result for a batch."""
        return self._compute(*values)

    def _compute(self, *values: Tensor) -> Tensor:
        raise NotImplementedError


@dataclass(kw_only=True)
class Norm(Op):
    """Batch norm with fixed statistics. Tensors are (C)."""

    gives_sums: ClassVar[bool] = True

    gain: Tensor
    offset: Tensor
    mean: Tensor
    variance: Tensor
    eps: float

    def _compute(self, *values: Tensor) -> Tensor:
        return functional.batch_norm(values[0], self.mean, self.variance, self.gain, self.offset, False, 0.0, self.eps)


@dataclass(kw_only=True)
class Weighted(Op):
    """A layer with weights (K, ...), a bias (K) or none, and the batch norm that follows it, once attached."""

    weight: Tensor
    bias: Tensor | None = None
    norm: Norm | None = None

    gives_sums: ClassVar[bool] = True

    def _finished(self, y: Tensor) -> Tensor:
        return y if self.norm is None else self.norm(y)


@dataclass(kw_only=True)
class Conv(Weighted):
    """A convolution."""

    stride: Pair = Pair(1, 1)
    padding: Padding = Padding()
    dilation: Pair = Pair(1, 1)
    groups: int = 1

    def _compute(self, *values: Tensor) -> Tensor:
        top, left, bottom, right = self.padding
        x = functional.pad(values[0], (left, right, top, bottom)) if any(self.padding) else values[0]
        y = functional.conv2d(x, self.weight, self.bias, tuple(self.stride), (0, 0), tuple(self.dilation), self.groups)
        return self._finished(y)


@dataclass(kw_only=True)
class Dense(Weighted):
    """A linear layer; it reads (N, C, H, W) flat."""

    def _compute(self, *values: Tensor) -> Tensor:
        return self._finished(functional.linear(values[0].flatten(1), self.weight, self.bias))


@dataclass(kw_only=True)
class Affine(Op):
    """``gain * x + offset`` by channel. Tensors are (C), float32."""

    gain: Tensor
    offset: Tensor

    gives_sums: ClassVar[bool] = True
    is_elementwise: ClassVar[bool] = True

    def is_same_for_all_channels(self) -> bool:
        """Whether all channels have one factor and one offset."""
        return bool((self.gain == self.gain[0]).all() and (self.offset == self.offset[0]).all())

    def _compute(self, *values: Tensor) -> Tensor:
        shape = (-1, *[1] * (values[0].dim() - 2))
        return values[0] * self.gain.reshape(shape) + self.offset.reshape(shape)


@dataclass(kw_only=True)
class Rectifier(Op):
    """ReLU, with a maximum for ReLU6 and its like. Folding leaves those whose minimum is 0."""

    minimum: float | None = 0.0
    maximum: float | None = None

    is_elementwise: ClassVar[bool] = True

    def is_nonnegative(self, positive: Collection[str]) -> bool:
        """Whether it clips at 0."""
        return self.minimum == 0

    def _compute(self, *values: Tensor) -> Tensor:
        return values[0].clamp(self.minimum, self.maximum)


@dataclass(kw_only=True)
class ChannelDivision(Op):
    """Sums divided by a positive constant for each channel, before they are rounded. ``divisor`` is (C)."""

    divisor: Tensor

    takes_shortcuts: ClassVar[bool] = False

    def is_nonnegative(self, positive: Collection[str]) -> bool:
        """Whether what it reads is not."""
        return self.inputs[0] in positive

    def _compute(self, *values: Tensor) -> Tensor:
        return values[0] / self.divisor.reshape(-1, *[1] * (values[0].dim() - 2))


@dataclass(kw_only=True)
class Sum(Op):
    """The sum of two values of one shape."""

    gives_sums: ClassVar[bool] = True
    is_elementwise: ClassVar[bool] = True

    def is_nonnegative(self, positive: Collection[str]) -> bool:
        """Whether none of its inputs can be negative."""
        return all(name in positive for name in self.inputs)

    def _compute(self, *values: Tensor) -> Tensor:
        return values[0] + values[1]


@dataclass(kw_only=True)
class Concat(Op):
    """The channels of several images, one after the other."""

    def is_nonnegative(self, positive: Collection[str]) -> bool:
        """Whether none of its inputs can be negative."""
        return all(name in positive for name in self.inputs)

    def _compute(self, *values: Tensor) -> Tensor:
        return torch.cat(values, 1)


@dataclass(kw_only=True)
class Pool(Op):
    """The base of both pools."""

    kernel_size: Pair
    stride: Pair
    padding: Padding = Padding()
    ceil_mode: bool = False

    keeps_codes: ClassVar[bool] = True

    def is_nonnegative(self, positive: Collection[str]) -> bool:
        """Whether none of its inputs can be negative."""
        return all(name in positive for name in self.inputs)


@dataclass(kw_only=True)
class MaxPool(Pool):
    """The largest value of each window; with a kernel of 1x1 it skips rows and columns."""

    dilation: Pair = Pair(1, 1)

    def _compute(self, *values: Tensor) -> Tensor:
        return pooling.maxima(
            values[0], self.kernel_size, self.stride, self.padding, self.dilation, ceil_mode=self.ceil_mode
        )


@dataclass(kw_only=True)
class AvgPool(Pool):
    """The average of each window."""

    count_include_pad: bool = True

    def _compute(self, *values: Tensor) -> Tensor:
        return pooling.averages(
            values[0],
            self.kernel_size,
            self.stride,
            self.padding,
            ceil_mode=self.ceil_mode,
            count_include_pad=self.count_include_pad,
        )


@dataclass(kw_only=True)
class Pad(Op):
    """Every ``stride``-th row and column, zeros around the image, and channels of zeros before and after."""

    stride: Pair = Pair(1, 1)
    padding: Padding = Padding()
    channels: tuple[int, int] = (0, 0)

    keeps_codes: ClassVar[bool] = True

    def is_nonnegative(self, positive: Collection[str]) -> bool:
        """Whether none of its inputs can be negative."""
        return all(name in positive for name in self.inputs)

    def _compute(self, *values: Tensor) -> Tensor:
        top, left, bottom, right = self.padding
        some = values[0][:, :, :: self.stride.rows, :: self.stride.columns]
        return functional.pad(some, (left, right, top, bottom, *self.channels))


@dataclass(kw_only=True)
class Surround(Op):
    """Rows and columns around the image that repeat its own, in a mode of :class:`nybble.graph.PadEdges`."""

    padding: Padding
    mode: str

    keeps_codes: ClassVar[bool] = True

    def is_nonnegative(self, positive: Collection[str]) -> bool:
        """Whether its input cannot be negative."""
        return self.inputs[0] in positive

    def _compute(self, *values: Tensor) -> Tensor:
        (x,) = values
        top, left, bottom, right = self.padding
        rows = surrounding(self.mode, x.shape[2], top, bottom)
        columns = surrounding(self.mode, x.shape[3], left, right)
        return x[:, :, list(rows)][:, :, :, list(columns)]


@dataclass(kw_only=True)
class Pick(Op):
    """Some channels, in any order."""

    channels: tuple[int, ...]

    keeps_codes: ClassVar[bool] = True

    def is_nonnegative(self, positive: Collection[str]) -> bool:
        """Whether its input cannot be negative."""
        return self.inputs[0] in positive

    def _compute(self, *values: Tensor) -> Tensor:
        return values[0][:, list(self.channels)]


@dataclass(kw_only=True)
class Crop(Op):
    """Every ``step``-th row and column from ``start`` up to ``stop``."""

    start: Pair
    stop: Pair
    step: Pair = Pair(1, 1)

    keeps_codes: ClassVar[bool] = True

    def is_nonnegative(self, positive: Collection[str]) -> bool:
        """Whether its input cannot be negative."""
        return self.inputs[0] in positive

    def _compute(self, *values: Tensor) -> Tensor:
        rows, columns = (slice(*part) for part in zip(self.start, self.stop, self.step, strict=True))
        return values[0][:, :, rows, columns]


@dataclass(kw_only=True)
class Enlarge(Op):
    """Another size by nearest neighbours on a grid of :class:`nybble.graph.ResizeNearest`."""

    grid: str

    keeps_codes: ClassVar[bool] = True

    def is_nonnegative(self, positive: Collection[str]) -> bool:
        """Whether its input cannot be negative."""
        return self.inputs[0] in positive

    def _compute(self, *values: Tensor) -> Tensor:
        (x,) = values
        rows, columns = (nearest(self.grid, x.shape[axis], self.shape[axis - 1]) for axis in (2, 3))
        return x[:, :, list(rows)][:, :, :, list(columns)]


@dataclass(kw_only=True)
class Interpolate(Op):
    """Another size by bilinear interpolation on a grid of :class:`nybble.graph.ResizeBilinear`."""

    grid: str

    keeps_codes: ClassVar[bool] = True

    def is_nonnegative(self, positive: Collection[str]) -> bool:
        """Whether its input cannot be negative."""
        return self.inputs[0] in positive

    def sums(self, x: Tensor) -> tuple[Tensor, int]:
        """Sums of four values each with whole weights, and what to divide them by."""
        divisor = 1
        for axis in (2, 3):
            found = taps(self.grid, x.shape[axis], self.shape[axis - 1])
            weight = torch.tensor(found.weight, dtype=x.dtype, device=x.device).reshape(-1, *[1] * (3 - axis))
            low, high = (x.index_select(axis, torch.tensor(rows, device=x.device)) for rows in (found.low, found.high))
            x = low * (found.divisor - weight) + high * weight
            divisor *= found.divisor
        return x, divisor

    def _compute(self, *values: Tensor) -> Tensor:
        sums, divisor = self.sums(values[0])
        return sums / divisor


@dataclass(kw_only=True)
class Shuffle(Op):
    """Channels that become blocks of pixels, as PyTorch's PixelShuffle has them."""

    block: Pair

    keeps_codes: ClassVar[bool] = True

    def is_nonnegative(self, positive: Collection[str]) -> bool:
        """Whether its input cannot be negative."""
        return self.inputs[0] in positive

    def _compute(self, *values: Tensor) -> Tensor:
        (x,) = values
        count, channels, rows, columns = x.shape
        channels //= self.block.rows * self.block.columns
        blocks = x.reshape(count, channels, *self.block, rows, columns).permute(0, 1, 4, 2, 5, 3)
        return blocks.reshape(count, channels, rows * self.block.rows, columns * self.block.columns)


@dataclass(kw_only=True)
class Slopes(Op):
    """PReLU: ``x`` from 0 on, ``slope * x`` below. ``slope`` is (C)."""

    slope: Tensor

    gives_sums: ClassVar[bool] = True
    is_elementwise: ClassVar[bool] = True
    takes_shortcuts: ClassVar[bool] = False

    def is_same_for_all_channels(self) -> bool:
        """Whether all channels have one slope."""
        return bool((self.slope == self.slope[0]).all())

    def _compute(self, *values: Tensor) -> Tensor:
        return functional.prelu(values[0], self.slope)


@dataclass(kw_only=True)
class Result(Op):
    """An output of a network that is not a classifier: the value itself, called ``label``."""

    label: str

    input_bits: ClassVar[int | None] = 8
    takes_shortcuts: ClassVar[bool] = False

    def _compute(self, *values: Tensor) -> Tensor:
        return values[0]


@dataclass
class FloatNetwork:
    """Operations in execution order; the last one's result is the network's.

    A network that is not a classifier ends with a :class:`Result` for each of its outputs.

    Attributes
    ----------
    input_shape : tuple of int
        (C, H, W).
    ops : list of Op
    ending : str
        ``softmax`` or ``log_softmax`` if the module ends with one. It is left out; the network's results are logits.
    tail : tuple of Node
        Nodes of the integer graph that compute real numbers from the results, by their labels.
    outputs : tuple of str
        Labels of results and names of the tail's nodes that the network returns; empty for a classifier.
    """

    input_shape: tuple[int, int, int]
    ops: list[Op] = field(default_factory=list)
    ending: str = ""
    tail: tuple[Node, ...] = ()
    outputs: tuple[str, ...] = ()

    @property
    def results(self) -> list[Result]:
        """The outputs of a network that is not a classifier."""
        return [op for op in self.ops if isinstance(op, Result)]

    @property
    def output(self) -> str:
        """Name of the result."""
        return self.ops[-1].name

    def __iter__(self) -> Iterator[Op]:
        return iter(self.ops)

    def __getitem__(self, name: str) -> Op:
        return next(op for op in self.ops if op.name == name)

    def prune(self, output: str) -> None:
        """Make an operation the output, and remove everything that it does not need."""
        needed = {output, *(op.name for op in self.results)}
        for op in reversed(self.ops):
            if op.name in needed:
                needed.update(op.inputs)
        self.ops = [op for op in self.ops if op.name in needed]

    def readers(self) -> dict[str, list[Op]]:
        """The operations that read each value, by name; one that reads it twice is listed twice."""
        found: dict[str, list[Op]] = {INPUT: [], **{op.name: [] for op in self.ops}}
        for op in self.ops:
            for name in op.inputs:
                found[name].append(op)
        return found

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every value's shape, without the batch."""
        return {INPUT: self.input_shape, **{op.name: op.shape for op in self.ops}}

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """Logits of (N, C, H, W) images."""
        return self._unread(x)[self.output]

    @torch.no_grad()
    def returned(self, x: Tensor) -> dict[str, Tensor]:
        """All outputs of a network that is not a classifier, by name, for images (N, C, H, W)."""
        values = self._unread(x)
        live = {op.label: values[op.name].cpu().numpy() for op in self.results}
        for node in self.tail:
            operation = operation_of(node)
            if operation is None:
                raise AssertionError(node.op)
            read = [live[name] for name in node.inputs]
            live[node.name] = operation.compute(node, [real(*value.shape[1:]) for value in read], read)
        return {name: torch.from_numpy(live[name]).to(x.device) for name in self.outputs}

    def _unread(self, x: Tensor) -> dict[str, Tensor]:
        """The values of a batch that no operation reads."""
        values = {INPUT: x}
        for _ in self._run(values):
            pass
        return values

    def steps(self, x: Tensor) -> Iterator[tuple[Op, dict[str, Tensor]]]:
        """Each operation of a batch (N, C, H, W) once it is done, with the values that are still to be read.

        These include what the operation has read.
        """
        values = {INPUT: x}
        return ((op, values) for op in self._run(values))

    def _run(self, values: dict[str, Tensor]) -> Iterator[Op]:
        last_reader = {name: op.name for op in self.ops for name in op.inputs}
        for op in self.ops:
            values[op.name] = op(*(values[name] for name in op.inputs))
            yield op
            for name in set(op.inputs):
                if last_reader[name] == op.name:
                    del values[name]


class RecordedModule(nn.Module):
    """A module that lists its operations itself and need not be captured."""

    def recorded(self, input_shape: tuple[int, int, int]) -> FloatNetwork:
        """The operations for images of a shape (C, H, W)."""
        raise NotImplementedError
