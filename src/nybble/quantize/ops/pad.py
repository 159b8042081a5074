"""Padding with zeros and with what an image has itself, and every n-th row and column."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor
from torch.nn import functional

from nybble import graph
from nybble.graph import Padding, Pair
from nybble.graph.rescale import Rescale
from nybble.quantize.fake.operation import FakeOperation
from nybble.quantize.ir import float_network, vocabulary
from nybble.quantize.ir.vocabulary import Result, Translation, Unsupported
from nybble.quantize.ops.base import FloatOperation
from nybble.quantize.ops.examples import FloatExample, around
from nybble.quantize.ops.forms import Forms
from nybble.quantize.ops.moved import Move, MovedCodes
from nybble.quantize.ops.onnx_arguments import Value, constant_of, image_of
from nybble.quantize.ops.registry import register

if TYPE_CHECKING:
    from nybble.quantize.fake.network import Step
    from nybble.quantize.lower.conversion import Conversion
    from nybble.quantize.ops.restoration import Restoration
    from nybble.quantize.prepare.preparation import Preparation

forms = Forms()


class Pad(FakeOperation):
    """Every ``stride``-th row and column, zeros around the image, and channels of zeros before and after.

    The values stay what they are: the integer network copies codes. Option A of the shortcuts of He et al. 2015.
    """

    def __init__(self, stride: Pair, padding: Padding, channels: tuple[int, int]) -> None:
        super().__init__()
        self.stride = stride
        self.padding = padding
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, before + C + after, H', W')."""
        top, left, bottom, right = self.padding
        some = x[:, :, :: self.stride.rows, :: self.stride.columns]
        return functional.pad(some, (left, right, top, bottom, *self.channels))

    def extra_repr(self) -> str:
        """The text that ``print`` shows."""
        return f"stride={tuple(self.stride)}, padding={tuple(self.padding)}, channels={self.channels}"


#: Modes as PyTorch and ONNX call them.
_MODES = {"reflect": "reflect", "replicate": "edge", "edge": "edge", "circular": "wrap", "wrap": "wrap"}


@forms.aten("pad.default", "constant_pad_nd.default")
def _pad(
    shape: tuple[int, ...], x: Translation, sides: Sequence[int], mode: Any = "constant", value: Any = None
) -> Result:
    filling = value if isinstance(mode, str) else mode
    return _padded(x, sides, mode if isinstance(mode, str) else "constant", filling)


@forms.aten("reflection_pad2d.default")
def _reflection(shape: tuple[int, ...], x: Translation, sides: Sequence[int]) -> Result:
    return _padded(x, sides, "reflect", None)


@forms.aten("replication_pad2d.default")
def _replication(shape: tuple[int, ...], x: Translation, sides: Sequence[int]) -> Result:
    return _padded(x, sides, "replicate", None)


def _padded(x: Translation, sides: Sequence[int], mode: str, filling: Any) -> Result:
    given = [*sides, *[0] * (6 - len(sides))]
    if len(given) > 6 or len(x.shape) != 3:
        raise Unsupported(f"only images (N, C, H, W) can be padded, not by {list(sides)}")
    left, right, top, bottom, before, after = given
    return _around(x, Padding(top, left, bottom, right), (before, after), mode, float(filling or 0))


@forms.onnx("Pad", integers=(1, 3), numbers=(2,))
def _onnx_pad(
    node: Any, value: Value, pads: Value | None = None, filling: Value | None = None, axes: Value | None = None
) -> Result:
    x = image_of(value)
    given = node.get("pads", []) if pads is None else constant_of(pads, "its sides").reshape(-1).tolist()
    fill = node.get("value", 0.0) if filling is None else float(constant_of(filling, "its filling").reshape(-1)[0])
    named = [axis % 4 for axis in (range(4) if axes is None else constant_of(axes, "its axes").reshape(-1).tolist())]
    if len(given) != 2 * len(named):
        raise Unsupported(f"it has {len(given)} sides of {len(named)} axes")
    first = dict(zip(named, given[: len(named)], strict=True))
    last = dict(zip(named, given[len(named) :], strict=True))
    if first.get(0) or last.get(0):
        raise Unsupported("images cannot be added to the batch")
    sides = Padding(first.get(2, 0), first.get(3, 0), last.get(2, 0), last.get(3, 0))
    return _around(x, sides, (first.get(1, 0), last.get(1, 0)), node.get("mode", "constant"), fill)


def _around(x: Translation, sides: Padding, channels: tuple[int, int], mode: str, filling: float) -> Result:
    if mode == "constant":
        if filling and max(*sides, *channels) > 0:
            raise Unsupported(f"only zeros can be put around images, not {filling:g}")
        return vocabulary.pad(x, sides, channels)
    if mode not in _MODES or any(channels):
        raise Unsupported(f"only rows and columns can be padded in mode {mode!r}, by one of {', '.join(_MODES)}")
    return vocabulary.surround(x, sides, _MODES[mode])


class Surrounded(Move):
    """More rows and columns, by the image's own."""


class Surrounding(MovedCodes):
    """Padding by reflection, by the edges, or around."""

    ops = (float_network.Surround,)
    modules = (Surrounded,)
    nodes = (graph.PadEdges,)
    kind = graph.PadEdges

    def examples(self) -> Iterator[FloatExample]:
        """Cover every mode, and padding that crops on one side."""
        for mode in ("reflect", "replicate"):
            yield around(mode, lambda mode=mode: lambda x: functional.pad(functional.relu(x), (1, 2, 0, 3), mode))  # type: ignore[misc]
        yield around(
            "cut off", lambda: lambda x: functional.pad(functional.pad(x, (1, 1, 0, 0), "replicate"), (-1, 2, 1, -2))
        )

    def attributes(self, op: float_network.Surround) -> Mapping[str, Any]:
        """The sides and the mode of the node."""
        return {"padding": op.padding, "mode": op.mode}

    def op_of(self, node: graph.PadEdges, shape: tuple[int, ...]) -> float_network.Surround:
        """The operation with the node's sides and mode."""
        return float_network.Surround(name=node.name, inputs=(), shape=shape, padding=node.padding, mode=node.mode)


class Padded(FloatOperation):
    """Zero padding that no layer or pool takes in: the integer network copies codes by a convolution."""

    forms = forms
    ops = (float_network.Pad,)
    modules = (Pad,)

    def examples(self) -> Iterator[FloatExample]:
        """Cover channels of zeros, and padding that no layer includes."""
        yield around(
            "channels", lambda: lambda x: functional.pad(functional.relu(x)[:, :, ::2, ::2], (0, 0, 0, 0, 2, 1)), 9
        )
        yield around("uneven", lambda: lambda x: functional.max_pool2d(functional.pad(x, (1, 0, 2, 1)), 3))

    def prepare(self, op: float_network.Pad, preparation: Preparation) -> None:
        """The operation reads codes."""
        preparation.on_codes(op, Pad(op.stride, op.padding, op.channels))

    def convert(self, module: Pad, step: Step, conversion: Conversion) -> None:
        """Add a convolution that copies codes, and a Quantize whose factors are 1."""
        (source,) = step.inputs
        reads = conversion.type_of(source)
        channels = reads.shape[0]
        before, after = module.channels
        if before or after:
            weight, groups = np.zeros((before + channels + after, channels, 1, 1), np.int8), 1
            weight[before : before + channels, :, 0, 0] = np.eye(channels, dtype=np.int8)
        else:
            weight, groups = np.ones((channels, 1, 1, 1), np.int8), channels
        copy = graph.Conv2d(
            name=conversion.free(f"{step.name}.copy"),
            inputs=(conversion.values[source],),
            input_type=reads.dtype,
            weight=graph.Tensor.from_array(graph.DType.S4, weight),
            stride=module.stride,
            padding=module.padding,
            groups=groups,
        )
        conversion.add(copy)
        conversion.units[step.name] = conversion.units[source]
        one = graph.Tensor.from_array(graph.DType.U16, np.ones(len(weight), np.int64))
        chosen = Rescale(one, 0, 0.0, 0, 0.0)
        conversion.values[step.name] = conversion.quantize(step.name, copy.name, reads.dtype, chosen)


def copied(node: graph.Node, restoration: Restoration) -> Pad | None:
    """The padding that a convolution stands for whose sums are taken over as codes."""
    readers = restoration.consumers[node.name]
    if not isinstance(node, graph.Conv2d) or node.bias is not None or node.kernel_size != (1, 1) or len(readers) != 1:
        return None
    (reader,) = readers
    weight = node.weight.numpy()[:, :, 0, 0]
    whole = isinstance(reader, graph.Quantize) and reader.shift == 0 and reader.output_type is node.input_type
    if not whole or not isinstance(reader, graph.Quantize) or np.any(reader.factor.numpy() != 1):
        return None
    if node.groups > 1:
        same = weight.shape[1] == 1 and len(weight) == node.groups and bool(np.all(weight == 1))
        return Pad(node.stride, node.padding, (0, 0)) if same else None
    channels = weight.shape[1]
    before = int(np.argmax(weight.any(axis=1)))
    after = len(weight) - channels - before
    if after < 0 or not np.array_equal(weight, np.eye(len(weight), channels, -before, dtype=weight.dtype)):
        return None
    return Pad(node.stride, node.padding, (before, after))


register(Padded())
register(Surrounding())
