"""The kernel for a network's first convolution: when it is used, and how its work is divided into tiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nybble.backends.cuda.kernels import STEM_BYTES
from nybble.backends.cuda.layout import Form, Stored
from nybble.backends.cuda.packing import column_order
from nybble.graph.types import Array
from nybble.lower import Conv, Pool, Step, Window

#: Limits of ``native/gpu/kernels/stem.h``: pixels of a region, columns of a tile, bytes of shared memory, columns of a
#: window, channels.
ROWS, COLUMNS, SHARED, MOST_WIDE, MOST_CHANNELS = 256, 64, STEM_BYTES, 8, 4
#: A pool is fused only if at most this many times the sums of the layer alone are computed.
_MOST_REPEATED = 2


@dataclass(frozen=True)
class Tile:
    """Part of the result that one block computes.

    Attributes
    ----------
    height, width : int
        Pixels of the pool's result.
    region : tuple of int
        Rows and columns of the convolution's result that it needs.
    patch : tuple of int
        Rows and columns of the input that these need.
    """

    height: int
    width: int
    region: tuple[int, int]
    patch: tuple[int, int]

    def blocks(self, extents: tuple[int, int]) -> tuple[int, int]:
        """Tiles down and across that cover a result."""
        return -(-extents[0] // self.height), -(-extents[1] // self.width)


def choose_tile(conv: Window, pool: Window, extents: tuple[int, int]) -> Tile | None:
    """The tile with the fewest blocks, of these the one with the smallest patch; ``None`` if none fits.

    Parameters
    ----------
    conv, pool : Window
        The pool's is one pixel where there is none.
    extents : tuple of int
        Rows and columns of the pool's result.
    """
    found = []
    for height in range(1, min(ROWS, extents[0]) + 1):
        for width in range(1, min(ROWS // height, extents[1]) + 1):
            region = tuple(
                (count - 1) * stride + (size - 1) * dilation + 1
                for count, stride, size, dilation in zip(
                    (height, width), pool.stride, pool.kernel_size, pool.dilation, strict=True
                )
            )
            if region[0] * region[1] > ROWS:
                break
            patch = (
                (region[0] - 1) * conv.stride.rows + (conv.kernel_size.rows - 1) * conv.dilation.rows + 1,
                (region[1] - 1) * conv.stride.columns + MOST_WIDE,
            )
            patch_bytes = -(-patch[0] * patch[1] * 4 // 128) * 128
            if patch_bytes + conv.kernel_size.rows * COLUMNS * 32 <= SHARED:
                found.append(Tile(height, width, (region[0], region[1]), patch))
    return min(found, key=lambda tile: (np.prod(tile.blocks(extents)), np.prod(tile.patch)), default=None)


@dataclass(frozen=True)
class Stem:
    """The first convolution and what is computed with it.

    Attributes
    ----------
    conv : Step
    pool : Step or None
        Reads the convolution, whose result is then never stored.
    tile : Tile
    """

    conv: Step
    pool: Step | None
    tile: Tile

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps in their order."""
        return (self.conv,) if self.pool is None else (self.conv, self.pool)

    @property
    def pool_window(self) -> Window:
        """The window of the pool; one pixel if there is no pool."""
        return _ONE if self.pool is None else self.pool.body_as(Pool).window

    @property
    def kernel(self) -> str:
        """The kernel's name."""
        return f"stem_{'s' if self.conv.input.dtype.is_signed else 'u'}8s8"

    def pack(self) -> Array:
        """uint8 (64 columns each, rows of the window, columns, 32 bytes) of the weights: four bytes for each tap."""
        weights = self.conv.body_as(Conv).weights()
        outputs, inputs, height, width = weights.shape
        blocks = -(-outputs // COLUMNS)
        padded = np.zeros((blocks * COLUMNS, height, MOST_WIDE, MOST_CHANNELS), np.int8)
        padded[:outputs, :, :width, :inputs] = weights.transpose(0, 2, 3, 1)
        ordered = padded[column_order(blocks * COLUMNS)].reshape(blocks, COLUMNS, height, MOST_WIDE * MOST_CHANNELS)
        packed: Array = np.ascontiguousarray(ordered.transpose(0, 2, 1, 3)).view(np.uint8)
        return packed


_ONE = Window(kernel_size=Window._field_defaults["stride"])


def find_stem(
    steps: list[Step], values: Mapping[str, Stored], chosen: Mapping[str, str], outputs: Sequence[str]
) -> Stem | None:
    """The stem of a network, or ``None``: then a convolution kernel runs its first layer.

    Parameters
    ----------
    steps : list of Step
    values : mapping
        By name, as they are stored.
    chosen : mapping
        Steps that must run with a given kernel.
    outputs : sequence of str
        Those of the network.
    """
    step = steps[0] if steps else None
    if step is None or step.conv is None or not step.input.is_input or step.output in chosen:
        return None
    window, source = step.conv.window, values[step.source]
    if (
        step.conv.groups > 1
        or step.add is not None
        or source.form is not Form.BYTES
        or source.channels > MOST_CHANNELS
        or window.kernel_size.columns > MOST_WIDE
        or window.dilation.columns > 1
        or step.source in outputs
        or any(step.source in other.reads for other in steps[1:])
    ):
        return None
    readers = [other for other in steps if step.output in other.reads]
    keeps_order = step.table is None and step.negative_factor is None
    if len(readers) == 1 and step.output not in outputs and keeps_order:
        pool = readers[0].body
        tile = None
        if isinstance(pool, Pool) and not pool.average:
            tile = choose_tile(window, pool.window, values[readers[0].output].extents)
        if tile is not None and _worth(tile, values[step.output], values[readers[0].output]):
            return Stem(step, readers[0], tile)
    alone = choose_tile(window, _ONE, values[step.output].extents)
    return None if alone is None else Stem(step, None, alone)


def _worth(tile: Tile, conv: Stored, result: Stored) -> bool:
    down, across = tile.blocks(result.extents)
    return down * across * tile.region[0] * tile.region[1] <= _MOST_REPEATED * conv.pixels
