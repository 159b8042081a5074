"""Pools of torch tensors with padding that may differ from side to side, for every size that the graph's pools take."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from nybble.graph import Padding, Pair
from nybble.graph.ops.windows import output_extent


def fitting(x: Tensor, window: Pair, padding: Padding) -> Pair:
    """A window that is limited to the size of the padded image.

    Training images may be smaller than the network's input: a window over the whole image then still covers it. At full
    size this has no effect: windows end with the padding, and larger ones are legal only in ceil mode.
    """
    rows, columns = x.shape[2] + padding.top + padding.bottom, x.shape[3] + padding.left + padding.right
    return Pair(min(window.rows, rows), min(window.columns, columns))


def maxima(
    x: Tensor, window: Pair, stride: Pair, padding: Padding, dilation: Pair = Pair(1, 1), *, ceil_mode: bool = False
) -> Tensor:
    """The largest value of each window of (N, C, H, W); padding never wins."""
    top, left, bottom, right = padding
    if _is_plain(window, padding):
        return functional.max_pool2d(x, tuple(window), tuple(stride), (top, left), tuple(dilation), ceil_mode)
    rows, columns = _extents(x, window, stride, padding, dilation, ceil_mode)
    padded = functional.pad(x, (left, right, top, bottom), value=-torch.inf)
    y = functional.max_pool2d(padded, tuple(window), tuple(stride), (0, 0), tuple(dilation), ceil_mode)
    return y[:, :, :rows, :columns]


def averages(
    x: Tensor, window: Pair, stride: Pair, padding: Padding, *, ceil_mode: bool = False, count_include_pad: bool = True
) -> Tensor:
    """The average of each window of (N, C, H, W)."""
    top, left, bottom, right = padding
    if _is_plain(window, padding):
        return functional.avg_pool2d(x, tuple(window), tuple(stride), (top, left), ceil_mode, count_include_pad)
    rows, columns = _extents(x, window, stride, padding, Pair(1, 1), ceil_mode)
    # Zeros up to the end of the last window; the counts know which of them are padding.
    more = [
        max(0, (count - 1) * step + extent - size - sum(sides))
        for count, step, extent, size, sides in zip(
            (rows, columns), stride, window, x.shape[2:], ((top, bottom), (left, right)), strict=True
        )
    ]
    padded = functional.pad(x, (left, right + more[1], top, bottom + more[0]))
    sums = functional.avg_pool2d(padded, tuple(window), tuple(stride), divisor_override=1)[:, :, :rows, :columns]
    counts = [
        _counts(size, count, extent, step, before, after, count_include_pad)
        for size, count, extent, step, before, after in zip(
            x.shape[2:], (rows, columns), window, stride, padding[:2], padding[2:], strict=True
        )
    ]
    return sums / x.new_tensor([[high * wide for wide in counts[1]] for high in counts[0]])


def _is_plain(window: Pair, padding: Padding) -> bool:
    """Whether PyTorch takes such padding itself."""
    fits = padding.top * 2 <= window.rows and padding.left * 2 <= window.columns
    return padding.is_symmetric and fits


def _extents(x: Tensor, window: Pair, stride: Pair, padding: Padding, dilation: Pair, ceil_mode: bool) -> Sequence[int]:
    return [
        output_extent(size, extent, step, before, after, spread, ceil_mode)
        for size, extent, step, before, after, spread in zip(
            x.shape[2:], window, stride, padding[:2], padding[2:], dilation, strict=True
        )
    ]


def _counts(size: int, count: int, window: int, stride: int, before: int, after: int, padded: bool) -> list[int]:
    """What each window's sum along one axis is divided by."""
    found = []
    for place in range(count):
        first = place * stride - before
        end = min(first + window, size + after)
        found.append(end - first if padded else min(end, size) - max(first, 0))
    return found
