"""Windows of convolutions and pools: their extents and checks, their starts, and their form in files."""

from __future__ import annotations

import numpy as np

from nybble.graph.errors import GraphError
from nybble.graph.lines import joined
from nybble.graph.nodes import Node, Padding, Pair
from nybble.graph.types import Array
from nybble.graph.value_type import MAX_EXTENT, ValueType


def output_extent(size: int, kernel: int, stride: int, before: int, after: int, dilation: int, ceil_mode: bool) -> int:
    """Rows (or columns) a window produces; 0 or less where it does not fit.

    In ceil mode the last window must start inside the input or the padding before it, as in PyTorch.
    """
    span = size + before + after - dilation * (kernel - 1) - 1
    if not ceil_mode:
        return span // stride + 1
    extent = -(-span // stride) + 1
    return extent - 1 if (extent - 1) * stride >= size + before else extent


def window_shape(
    node: Node, rows: int, columns: int, kernel: Pair, stride: Pair, padding: Padding, dilation: Pair, ceil_mode: bool
) -> tuple[int, int]:
    """Rows and columns that windows produce. Raises GraphError if an attribute is out of range or no window fits."""
    for field, pair, least in (("kernel_size", kernel, 1), ("stride", stride, 1), ("dilation", dilation, 1)):
        if min(pair) < least or max(pair) > MAX_EXTENT:
            raise GraphError(f"{field}={tuple(pair)} is not in {least}..{MAX_EXTENT}", node=node.name, field=field)
    if min(padding) < 0 or max(padding) > MAX_EXTENT:
        raise GraphError(f"padding={tuple(padding)} is not in 0..{MAX_EXTENT}", node=node.name, field="padding")
    shape = (
        output_extent(rows, kernel.rows, stride.rows, padding.top, padding.bottom, dilation.rows, ceil_mode),
        output_extent(
            columns, kernel.columns, stride.columns, padding.left, padding.right, dilation.columns, ceil_mode
        ),
    )
    if min(shape) < 1:
        raise GraphError(
            f"a window of {kernel.rows}x{kernel.columns} does not fit {rows}x{columns} with padding {tuple(padding)}",
            node=node.name,
            field="kernel_size",
        )
    return shape


def check_pool_padding(node: Node, kernel: Pair, padding: Padding, dilation: Pair) -> None:
    """Raise GraphError if a window could lie wholly in padding: it spans no more than the padding."""
    spans = (dilation.rows * (kernel.rows - 1), dilation.columns * (kernel.columns - 1))
    if max(padding.top, padding.bottom) > spans[0] or max(padding.left, padding.right) > spans[1]:
        raise GraphError(
            f"padding {tuple(padding)} leaves windows with nothing but padding", node=node.name, field="padding"
        )


def is_whole_image(kernel: Pair, padding: Padding, source: ValueType) -> bool:
    """Whether a window without padding covers the image (C, H, W): a global pool."""
    return tuple(kernel) == source.shape[1:] and not any(padding)


def sides(padding: Padding) -> tuple[Pair, Pair]:
    """Padding before and after, for rows and for columns."""
    return Pair(padding.top, padding.bottom), Pair(padding.left, padding.right)


def starts(size: int, before: int, after: int, span: int, stride: int, ceil_mode: bool) -> Array:
    """Index of each window's first sample; negative in the padding before.

    Windows start every ``stride`` samples from ``-before`` on and end by ``size + after``. In ceil mode the last may
    run past that end as long as it starts before ``size``. This is the definition, from which :func:`output_extent`
    is independent.
    """
    end = size + after
    found = np.arange(-before, end - span + 1, stride)
    if ceil_mode:
        following = -before + len(found) * stride
        if following < size and following - stride + span < end:
            found = np.append(found, following)
    return found


def square_text(pair: Pair) -> str:
    """A pair as pools write it: one number where both agree."""
    return str(pair.rows) if pair.rows == pair.columns else joined(pair)


def sides_text(padding: Padding) -> str:
    """Padding as pools write it: one number, two or four."""
    if not padding.is_symmetric:
        return joined(padding)
    return square_text(Pair(padding.top, padding.left))
