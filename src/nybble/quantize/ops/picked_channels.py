"""Channels that are picked out or put in another order, and every n-th row and column."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from nybble.graph import Pair
from nybble.quantize.ir import vocabulary
from nybble.quantize.ir.vocabulary import Result, Results, Translation, Unsupported, value_of
from nybble.quantize.ops.base import FloatOperation
from nybble.quantize.ops.examples import FloatExample, around
from nybble.quantize.ops.forms import Forms
from nybble.quantize.ops.onnx_arguments import Value, constant_of, image_of
from nybble.quantize.ops.registry import register

forms = Forms()


@forms.aten("select.int")
def _select(shape: tuple[int, ...], x: Translation, dim: int, index: int) -> Result:
    return vocabulary.select(x, dim, index)


@forms.aten("index.Tensor")
def _index(shape: tuple[int, ...], x: Any, indices: Sequence[Any]) -> Result:
    given = [entry for entry in indices if entry is not None]
    if len(given) != 1 or not isinstance(given[0], Tensor) or given[0].dim() != 1 or given[0].is_floating_point():
        raise Unsupported("only a list of channels can be picked out")
    chosen = given[0].nonzero().flatten() if given[0].dtype is torch.bool else given[0]
    axis = next(place for place, entry in enumerate(indices) if entry is not None)
    return _picked(value_of(x), axis, chosen)


@forms.aten("index_select.default")
def _index_select(shape: tuple[int, ...], x: Any, dim: int, index: Tensor) -> Result:
    return _picked(value_of(x), dim, index)


@forms.aten("flip.default")
def _flip(shape: tuple[int, ...], x: Translation, dims: Sequence[int]) -> Result:
    if len(dims) != 1:
        raise Unsupported("only the order of channels can be turned round")
    return _picked(x, dims[0], torch.arange(x.shape[x.axis(dims[0])]).flip(0))


@forms.aten("split.Tensor", "unsafe_split.Tensor")
def _split(shape: tuple[int, ...], x: Translation, size: int, dim: int = 0) -> Results:
    return vocabulary.split_evenly(x, dim, size)


@forms.aten("split_with_sizes.default", "split.sizes", "unsafe_split_with_sizes.default")
def _split_in_sizes(shape: tuple[int, ...], x: Translation, sizes: Sequence[int], dim: int = 0) -> Results:
    return vocabulary.split(x, dim, sizes)


@forms.aten("chunk.default", "unsafe_chunk.default")
def _chunk(shape: tuple[int, ...], x: Translation, count: int, dim: int = 0) -> Results:
    return vocabulary.split_evenly(x, dim, -(-x.shape[x.axis(dim)] // count))


@forms.aten("unbind.int")
def _unbind(shape: tuple[int, ...], x: Translation, dim: int = 0) -> Results:
    return tuple(vocabulary.select(x, dim, index) for index in range(x.shape[x.axis(dim)]))


@forms.aten("roll.default")
def _roll(shape: tuple[int, ...], x: Translation, shifts: Sequence[int], dims: Sequence[int] = ()) -> Result:
    if len(dims) != 1:
        raise Unsupported("only the order of channels can be rolled")
    return _picked(x, dims[0], torch.arange(x.shape[x.axis(dims[0])]).roll(shifts[0]))


def _picked(x: Translation, axis: int, channels: Tensor) -> Result:
    count = x.shape[x.axis(axis)]
    return vocabulary.pick(x, axis, [channel % count for channel in channels.reshape(-1).tolist()])


@forms.aten("slice.Tensor")
def _slice(
    shape: tuple[int, ...],
    x: Translation,
    dim: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> Result:
    axis = dim % (len(x.shape) + 1)
    if axis == 0:
        if start in (None, 0) and step == 1 and (end is None or end > _MANY):
            return x
        raise Unsupported("a slice must leave the batch (axis 0) alone")
    size, result = x.shape[axis - 1], shape[axis - 1]
    if size == result and step == 1:
        return x
    if axis == 1 and len(x.shape) == 3:
        return vocabulary.pick(x, 1, range(size)[start:end:step])
    if axis not in (2, 3) or len(x.shape) != 3 or step < 1:
        raise Unsupported("only slices of rows and columns, forwards, can be taken")
    part = range(size)[start:end:step]
    if part == range(0, size, step):
        return vocabulary.skip(x, Pair(step, 1) if axis == 2 else Pair(1, step))
    rows, columns = (range(extent) for extent in x.shape[1:])
    return vocabulary.crop(x, part if axis == 2 else rows, part if axis == 3 else columns)


#: Ends of slices beyond it mean the end, whatever the batch.
_MANY = 1 << 31


@forms.onnx("Gather")
def _onnx_gather(node: Any, x: Value, index: Value) -> Result:
    x, places = value_of(x), constant_of(index, "its indices")
    axis = node.get("axis", 0)
    extent = x.shape[x.axis(axis)]
    if places.dtype.kind not in "iu" or places.ndim > 1 or any(not -extent <= place < extent for place in places.flat):
        raise Unsupported(f"its indices are not in {-extent}..{extent - 1}, for {extent} elements")
    if places.ndim:
        return vocabulary.pick(x, axis, [int(place) % extent for place in places])
    return vocabulary.select(x, axis, int(places))


@forms.onnx("Slice", integers=(1, 2, 3, 4))
def _onnx_slice(
    node: Any, value: Value, starts: Value | None = None, ends: Value | None = None, *more: Value | None
) -> Result:
    x = value_of(value)
    if starts is None or ends is None:
        first, last = node.get("starts", []), node.get("ends", [])
        axes, steps = node.get("axes", list(range(len(first)))), [1] * len(first)
    else:
        first, last = (constant_of(entry, "its ends").reshape(-1).tolist() for entry in (starts, ends))
        given = [None if entry is None else constant_of(entry, "its axes and steps").reshape(-1) for entry in more]
        axes, steps = (
            default if entry is None else entry.tolist()
            for entry, default in zip((*given, None, None), (list(range(len(first))), [1] * len(first)), strict=False)
        )
    if not len(first) == len(last) == len(axes) == len(steps):
        raise Unsupported("its starts, ends, axes and steps must be of one length")
    parts = {axis: range(extent) for axis, extent in enumerate(x.shape, 1)}
    rank = len(x.shape) + 1
    for start, end, axis, step in zip(first, last, axes, steps, strict=True):
        size = (node.batch, *x.shape)[axis % rank]
        if start == 0 and step == 1 and end >= size:
            continue
        if axis % rank == 1 and rank == 4 and step != 0:
            if len(first) > 1:
                raise Unsupported("channels and rows cannot be taken at once; slice twice")
            return vocabulary.pick(x, 1, range(size)[start:end:step])
        if step < 1 or axis % rank not in (2, 3) or rank != 4:
            raise Unsupported("only rows and columns of images can be taken, forwards")
        parts[axis % rank] = parts[axis % rank][start:end:step]
    if rank != 4 or all(part == range(extent) for part, extent in zip(parts.values(), x.shape, strict=True)):
        return x
    if all(parts[axis] == range(0, x.shape[axis - 1], parts[axis].step) for axis in (2, 3)):
        return vocabulary.skip(image_of(x), Pair(parts[2].step, parts[3].step))
    return vocabulary.crop(image_of(x), parts[2], parts[3])


@forms.onnx("Split", integers=(1,))
def _onnx_split(node: Any, x: Value, sizes: Value | None = None) -> Results:
    x, axis, count = value_of(x), node.get("axis", 0), len(node.outputs)
    given = node.get("split") if sizes is None else constant_of(sizes, "its sizes").reshape(-1).tolist()
    if given is None:
        parts = vocabulary.split_evenly(x, axis, -(-x.shape[x.axis(axis)] // count))
    else:
        parts = vocabulary.split(x, axis, given)
    if len(parts) != count:
        raise Unsupported(f"it has {count} outputs for {len(parts)} parts")
    return parts


class PickedChannels(FloatOperation):
    """Captured as convolutions of 1x1 and pools, which are operations of their own."""

    forms = forms

    def examples(self) -> Iterator[FloatExample]:
        """Cover halves that change places, and every other channel."""
        yield around("halves", lambda: lambda x: torch.cat(functional.relu(x).chunk(2, 1)[::-1], 1))
        yield around("every other", lambda: lambda x: functional.relu(x)[:, ::2], 3)


register(PickedChannels())
