"""Pools, views, and what moves or joins values of ATen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nybble.graph import Padding, Pair
from nybble.quantize.ir import vocabulary
from nybble.quantize.ir.vocabulary import Result, Results, Stack, Translation, Unsupported, value_of
from nybble.quantize.sources.pytorch.aten.handlers import check_type, handles, pair_of, sides_of

# Pools


@handles("max_pool2d.default", "max_pool2d_with_indices.default")
def _max_pool(
    shape: tuple[int, ...],
    x: Translation,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    ceil_mode: bool = False,
) -> Result:
    window = pair_of(kernel_size)
    return vocabulary.max_pool(x, window, pair_of(stride or window), sides_of(padding), pair_of(dilation), ceil_mode)


@handles("avg_pool2d.default")
def _avg_pool(
    shape: tuple[int, ...],
    x: Translation,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Result:
    if divisor_override is not None:
        raise Unsupported("an average pool with divisor_override has no integer form; multiply by a constant instead")
    window = pair_of(kernel_size)
    return vocabulary.average_pool(
        x, window, pair_of(stride or window), sides_of(padding), ceil_mode, count_include_pad
    )


@handles("adaptive_avg_pool2d.default", "_adaptive_avg_pool2d.default")
def _adaptive(shape: tuple[int, ...], x: Translation, size: Sequence[int]) -> Result:
    return vocabulary.adaptive_pool(x, shape[1:])


@handles("adaptive_max_pool2d.default")
def _adaptive_max(shape: tuple[int, ...], x: Translation, size: Sequence[int]) -> Result:
    return vocabulary.adaptive_pool(x, shape[1:], largest=True)


@handles("mean.dim")
def _mean(
    shape: tuple[int, ...],
    x: Translation | Stack,
    dim: Sequence[int] | None,
    keepdim: bool = False,
    *,
    dtype: Any = None,
) -> Result:
    check_type(dtype)
    return vocabulary.mean(x, dim, keepdim)


@handles("sum.dim_IntList")
def _sum(
    shape: tuple[int, ...],
    x: Translation | Stack,
    dim: Sequence[int] | None,
    keepdim: bool = False,
    *,
    dtype: Any = None,
) -> Result:
    check_type(dtype)
    return vocabulary.total(x, dim, keepdim)


@handles("amax.default")
def _amax(shape: tuple[int, ...], x: Translation, dim: Sequence[int] = (), keepdim: bool = False) -> Result:
    return vocabulary.largest(x, dim, keepdim)


@handles("max.dim")
def _max_dim(shape: tuple[int, ...], x: Translation, dim: int, keepdim: bool = False) -> Result:
    return vocabulary.largest(x, [dim], keepdim)


# Views


@handles("view.default", "reshape.default", "_unsafe_view.default", "flatten.using_ints", "unflatten.int")
def _view(shape: tuple[int, ...], x: Translation, *_: Any) -> Result:
    return vocabulary.reshape(x, shape)


@handles("squeeze.default")
def _squeeze(shape: tuple[int, ...], x: Translation) -> Result:
    return vocabulary.squeeze(x, None)


@handles("squeeze.dim", "squeeze.dims")
def _squeeze_some(shape: tuple[int, ...], x: Translation, dim: int | Sequence[int]) -> Result:
    return vocabulary.squeeze(x, [dim] if isinstance(dim, int) else dim)


@handles("unsqueeze.default")
def _unsqueeze(shape: tuple[int, ...], x: Translation, dim: int) -> Result:
    return vocabulary.unsqueeze(x, dim)


@handles("permute.default")
def _permute(shape: tuple[int, ...], x: Translation, dims: Sequence[int]) -> Result:
    return vocabulary.permute(x, dims)


@handles("transpose.int")
def _transpose(shape: tuple[int, ...], x: Translation, first: int, second: int) -> Result:
    order = list(range(len(shape) + 1))
    order[first], order[second] = order[second], order[first]
    return vocabulary.permute(x, order)


@handles("expand.default")
def _expand(shape: tuple[int, ...], x: Translation, *_: Any, implicit: bool = False) -> Result:
    if shape != x.shape:
        raise Unsupported("a value cannot be expanded along rows and columns")
    return x


@handles("select.int")
def _select(shape: tuple[int, ...], x: Translation, dim: int, index: int) -> Result:
    return vocabulary.select(x, dim, index)


@handles("index.Tensor")
def _index(shape: tuple[int, ...], x: Any, indices: Sequence[Any]) -> Result:
    given = [entry for entry in indices if entry is not None]
    if len(given) != 1 or not isinstance(given[0], Tensor) or given[0].dim() != 1 or given[0].is_floating_point():
        raise Unsupported("only a list of channels can be picked out")
    chosen = given[0].nonzero().flatten() if given[0].dtype is torch.bool else given[0]
    axis = next(place for place, entry in enumerate(indices) if entry is not None)
    return _picked(value_of(x), axis, chosen)


@handles("index_select.default")
def _index_select(shape: tuple[int, ...], x: Any, dim: int, index: Tensor) -> Result:
    return _picked(value_of(x), dim, index)


@handles("flip.default")
def _flip(shape: tuple[int, ...], x: Translation, dims: Sequence[int]) -> Result:
    if len(dims) != 1:
        raise Unsupported("only the order of channels can be turned round")
    return _picked(x, dims[0], torch.arange(x.shape[x.axis(dims[0])]).flip(0))


@handles("split.Tensor", "unsafe_split.Tensor")
def _split(shape: tuple[int, ...], x: Translation, size: int, dim: int = 0) -> Results:
    return vocabulary.split_evenly(x, dim, size)


@handles("split_with_sizes.default", "split.sizes", "unsafe_split_with_sizes.default")
def _split_in_sizes(shape: tuple[int, ...], x: Translation, sizes: Sequence[int], dim: int = 0) -> Results:
    return vocabulary.split(x, dim, sizes)


@handles("chunk.default", "unsafe_chunk.default")
def _chunk(shape: tuple[int, ...], x: Translation, count: int, dim: int = 0) -> Results:
    return vocabulary.split_evenly(x, dim, -(-x.shape[x.axis(dim)] // count))


@handles("unbind.int")
def _unbind(shape: tuple[int, ...], x: Translation, dim: int = 0) -> Results:
    return tuple(vocabulary.select(x, dim, index) for index in range(x.shape[x.axis(dim)]))


@handles("roll.default")
def _roll(shape: tuple[int, ...], x: Translation, shifts: Sequence[int], dims: Sequence[int] = ()) -> Result:
    if len(dims) != 1:
        raise Unsupported("only the order of channels can be rolled")
    return _picked(x, dims[0], torch.arange(x.shape[x.axis(dims[0])]).roll(shifts[0]))


def _picked(x: Translation, axis: int, channels: Tensor) -> Result:
    count = x.shape[x.axis(axis)]
    return vocabulary.pick(x, axis, [channel % count for channel in channels.reshape(-1).tolist()])


@handles("slice.Tensor")
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
    if axis not in (2, 3) or start not in (None, 0):
        raise Unsupported("only slices of rows and columns that start at 0 can be taken")
    if result != -(-size // step):
        raise Unsupported("only slices that go to the end can be taken")
    return vocabulary.skip(x, Pair(step, 1) if axis == 2 else Pair(1, step))


#: Ends of slices beyond it mean the end, whatever the batch.
_MANY = 1 << 31


@handles("pad.default", "constant_pad_nd.default")
def _pad(
    shape: tuple[int, ...], x: Translation, sides: Sequence[int], mode: Any = "constant", value: Any = None
) -> Result:
    filling = value if isinstance(mode, str) else mode
    if isinstance(mode, str) and mode != "constant":
        raise Unsupported(f"only zeros can be put around images, not padding in mode {mode!r}")
    if filling not in (None, 0):
        raise Unsupported(f"only zeros can be put around images, not {filling}")
    given = [*sides, *[0] * (6 - len(sides))]
    if len(given) > 6 or min(given) < 0 or len(x.shape) != 3:
        raise Unsupported(f"only zeros can be put around images (N, C, H, W), not padding by {list(sides)}")
    left, right, top, bottom, before, after = given
    return vocabulary.pad(x, Padding(top, left, bottom, right), (before, after))


@handles("stack.default")
def _stack(shape: tuple[int, ...], values: Sequence[Any], dim: int = 0) -> Result:
    return vocabulary.stack(values, dim)


@handles("cat.default")
def _cat(shape: tuple[int, ...], values: Sequence[Any], dim: int = 0) -> Result:
    return vocabulary.concat(values, dim)


# What changes nothing


@handles("dropout.default", "feature_dropout.default", "alpha_dropout.default", "native_dropout.default")
def _dropout(shape: tuple[int, ...], x: Translation, rate: float = 0.5, train: bool | None = False) -> Result:
    if train:
        raise Unsupported("dropout is active even in evaluation mode; tie it to module.training")
    return x


@handles("clone.default", "detach.default", "alias.default", "contiguous.default", "lift_fresh_copy.default")
def _same(shape: tuple[int, ...], x: Translation, *, memory_format: Any = None) -> Result:
    return x


@handles("_to_copy.default", "to.dtype", "to.dtype_layout", "to.device", "to.other", "type_as.default")
def _cast(shape: tuple[int, ...], x: Any, *args: Any, dtype: Any = None, **_: Any) -> Result:
    for entry in (dtype, *args):
        check_type(entry.dtype if isinstance(entry, Tensor) else entry)
    return value_of(x)


@handles("zeros_like.default", "new_zeros.default")
def _zeros(shape: tuple[int, ...], x: Translation, *_: Any, **__: Any) -> Result:
    return torch.zeros(1, *shape)


@handles("ones_like.default", "new_ones.default")
def _ones(shape: tuple[int, ...], x: Translation, *_: Any, **__: Any) -> Result:
    return torch.ones(1, *shape)
