"""Pools, and means over rows and columns."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nybble.graph import Padding, Pair
from nybble.graph.ops.texts import extents
from nybble.graph.ops.windows import output_extent
from nybble.quantize.ir.float_network import AvgPool, MaxPool, Op
from nybble.quantize.ir.vocabulary.arithmetic import affine, sum_of_stack
from nybble.quantize.ir.vocabulary.moving import resize_nearest
from nybble.quantize.ir.vocabulary.value import Axes, Made, Result, Stack, Translation, Unsupported, image


def output_extents(
    x: Translation, window: Pair, stride: Pair, padding: Padding, dilation: Pair, ceil_mode: bool = False
) -> tuple[int, int]:
    """Rows and columns of what windows produce, in PyTorch's ceil mode if asked."""
    if min(*window, *stride, *dilation) < 1 or min(padding) < 0:
        raise Unsupported("its window, stride or dilation is below 1, or its padding below 0")
    rows, columns = (
        output_extent(size, extent, step, before, after, spread, ceil_mode)
        for size, extent, step, before, after, spread in zip(
            x.extents[1:], window, stride, padding[:2], padding[2:], dilation, strict=True
        )
    )
    if min(rows, columns) < 1:
        raise Unsupported(
            f"its window of {extents(window)} does not fit {extents(x.extents[1:])} pixels; take larger images"
        )
    return rows, columns


def max_pool(
    x: Translation,
    window: Pair,
    stride: Pair,
    padding: Padding = Padding(),
    dilation: Pair = Pair(1, 1),
    ceil_mode: bool = False,
) -> Result:
    """The largest value of each window."""
    x = image(x)
    shape = output_extents(x, window, stride, padding, dilation, ceil_mode)
    _check_padding(window, padding, dilation)
    return MaxPool(
        name="",
        inputs=(x.name,),
        shape=(x.extents[0], *shape),
        kernel_size=window,
        stride=stride,
        padding=padding,
        dilation=dilation,
        ceil_mode=ceil_mode,
    )


def average_pool(
    x: Translation,
    window: Pair,
    stride: Pair,
    padding: Padding = Padding(),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Result:
    """The average of each window."""
    x = image(x)
    shape = output_extents(x, window, stride, padding, Pair(1, 1), ceil_mode)
    _check_padding(window, padding, Pair(1, 1))
    return AvgPool(
        name="",
        inputs=(x.name,),
        shape=(x.extents[0], *shape),
        kernel_size=window,
        stride=stride,
        padding=padding,
        ceil_mode=ceil_mode,
        # Where there is no padding, both mean the same.
        count_include_pad=count_include_pad or not any(padding),
    )


def adaptive_pool(x: Translation, size: Sequence[int], largest: bool = False) -> Result:
    """A pool to so many rows and columns whose windows are all of one size."""
    x = image(x)
    if tuple(size) == x.extents[1:]:
        return x
    if size[0] % x.extents[1] == 0 and size[1] % x.extents[2] == 0:
        # Every window is one pixel, which is repeated.
        return resize_nearest(x, Pair(*size), "asymmetric")
    if x.extents[1] % size[0] or x.extents[2] % size[1]:
        raise Unsupported(
            f"an adaptive pool from {extents(x.extents[1:])} to {extents(size)} has windows of several sizes; "
            "choose an image size that divides evenly"
        )
    window = Pair(x.extents[1] // size[0], x.extents[2] // size[1])
    return max_pool(x, window, window) if largest else average_pool(x, window, window)


def mean(x: Translation | Stack, axes: Sequence[int] | None, keepdim: bool) -> Result:
    """The mean over rows and columns, or over one of them; axes are counted with the batch."""
    if isinstance(x, Stack):
        return sum_of_stack(x, axes, keepdim, average=True)
    return _reduced(AvgPool, x, axes, keepdim, "a mean")


def largest(x: Translation, axes: Sequence[int] | None, keepdim: bool) -> Result:
    """The largest value over rows and columns, or over one of them."""
    return _reduced(MaxPool, x, axes, keepdim, "a maximum")


def total(x: Translation | Stack, axes: Sequence[int] | None, keepdim: bool) -> Result:
    """The sum over rows and columns: the mean, times how many there are."""
    if isinstance(x, Stack):
        return sum_of_stack(x, axes, keepdim)
    result = _reduced(AvgPool, x, axes, keepdim, "a sum")
    if not isinstance(result, Made):
        return result
    (pool,) = result.ops
    count = math.prod(x.extents) // math.prod(pool.shape)
    pool.name = "\0mean"
    scaled = affine(Translation(pool.name, pool.shape), float(count), 0.0)
    more = scaled.ops if isinstance(scaled, Made) else ()
    return Made((pool, *more), result.axes)


def _reduced(
    kind: type[AvgPool | MaxPool], x: Translation, axes: Sequence[int] | None, keepdim: bool, what: str
) -> Op | Made | Translation:
    if not axes:
        raise Unsupported(f"{what} over the batch cannot be part of a network; give the axes of rows and columns")
    places = {x.axis(axis) for axis in axes}
    gone = {axis for place in places for axis in x.axes[place] if x.extents[axis] != 1}
    if 0 in gone:
        raise Unsupported(f"{what} can be over rows and columns only, not over channels")
    kept: Axes = tuple(group for place, group in enumerate(x.axes) if keepdim or place not in places)
    if not gone:
        return Translation(x.name, x.extents, kept, x.ending)
    rows, columns = (x.extents[axis] if axis in gone else 1 for axis in (1, 2))
    shape = (x.extents[0], x.extents[1] // rows, x.extents[2] // columns)
    window = Pair(rows, columns)
    return Made((kind(name="", inputs=(x.name,), shape=shape, kernel_size=window, stride=window),), kept)


def _check_padding(window: Pair, padding: Padding, dilation: Pair) -> None:
    spans = [spread * (extent - 1) for extent, spread in zip(window, dilation, strict=True)]
    if max(padding.top, padding.bottom) > spans[0] or max(padding.left, padding.right) > spans[1]:
        raise Unsupported(f"padding {tuple(padding)} leaves windows with nothing but padding")
