"""Kernel choice: how a convolution or linear layer runs, and the default for layers that are not tuned."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nybble import _native
from nybble.backends.cpu.layout import stored_shape
from nybble.backends.cpu.rates import Rates, rates
from nybble.backends.cpu.rows import LIST_GROUPS, layer, rows
from nybble.lower import Conv, Step

__all__ = ["LIST_GROUPS", "PAIR", "SINGLE", "WINOGRAD", "Kernel", "choose_kernel"]


@dataclass(frozen=True)
class Kernel:
    """How a convolution runs.

    ``method`` names a row of the table of kernels (:func:`nybble.backends.cpu.rows.rows`), which says what it computes.
    ``block_outputs`` output channels are computed together, for ``tile_pixels`` pixels at a time (Winograd: squares of
    2x2 pixels, at most, so that they stay in L2);
    ``visit_bytes`` of weights are kept in L1 while all pixels of the tile use them; ``list_block`` groups make a block
    of a list.
    """

    method: str
    block_outputs: int = 256
    tile_pixels: int = 64
    visit_bytes: int = 24 << 10
    list_block: int = 0


#: Block sizes for Winograd: outputs in registers, squares in L2.
WINOGRAD = Kernel("winograd", block_outputs=128, tile_pixels=32)

#: Block sizes for Winograd by quads: squares in L2, and as many tasks as there are threads.
WINOGRAD_QUAD = Kernel("winograd_quad", block_outputs=32, tile_pixels=32)

#: As ``winograd_quad``, with the fast inner product.
WINOGRAD_INNER = Kernel("winograd_inner", block_outputs=32, tile_pixels=32)

#: Block sizes for the fast inner product: sums of pixels computed once, a tile of inputs in L1.
INNER = Kernel("inner", block_outputs=256, tile_pixels=32)

#: Block sizes for dense pairs: a tile of inputs and a block of weights in L1.
PAIR = Kernel("pair", tile_pixels=32)

#: Block sizes for dense single inputs, likewise.
SINGLE = Kernel("single", tile_pixels=32)


def choose_kernel(step: Step, isa: str) -> Kernel:
    """The untuned default for a step that begins with a convolution or linear layer, on an instruction set."""
    table, asked, conv = rows(isa), layer(step), step.body_as(Conv)
    may = {name for name, row in table.items() if row.why_not_chosen(asked) is None}
    if "depthwise" in may:
        return Kernel("depthwise")
    if "grouped" in may:
        return Kernel("grouped")
    if may == {"direct"}:
        return Kernel("direct")
    has_dot_products, speed = table["quad"].has_dot_products, rates(isa)
    if table["quad"].has_signed_quads and (found := _neon_kernel(step, table, asked, may)) is not None:
        return found
    # A dot product stands for two products of pairs and their sums; without, quads are for signed inputs alone.
    if "winograd_quad" in may and (has_dot_products or "winograd" not in may) and _is_worth_winograd_quad(step, may):
        return _winograd_of_dots(step, may, speed)
    if "winograd" in may and _is_worth_winograd(step):
        return WINOGRAD
    if "pair" in may and not has_dot_products and _is_worth_pairs(step, conv, "sparse" in may):
        return PAIR
    # Sums of 64 outputs are two vectors, too few to hide the ends of lists: dense dot products are faster there.
    is_narrow = has_dot_products and conv.weight.shape[0] <= 64
    is_dense = has_dot_products and speed.beats_pairs and not _is_worth_pairs_of_dots(step)
    if "inner" in may and speed.has_ports_for_sums and _is_worth_inner(step, speed):
        return INNER
    if not is_narrow and not is_dense and "sparse" in may:
        blocks = table["sparse"].list_blocks(asked)
        return Kernel("sparse", block_outputs=table["sparse"].usual_outputs, list_block=blocks[-1])
    if "quad" not in may:
        return Kernel("chained" if "chained" in may and _is_worth_chains(step, conv) else "wide", block_outputs=64)
    channels, height, width = stored_shape(step.input)
    is_image = height * width > 1
    # A dot product costs one instruction: skipping zeros pays if a list is read often and few quads are non-zero.
    # Without dot products it costs three, and skipping pays except where few quads are zero and lists are read once: in
    # pointwise layers on large images, which are early ones.
    is_point = conv.window.kernel_size == (1, 1)
    if has_dot_products:
        _, rows_out, columns_out = stored_shape(step.result)
        is_late = not speed.is_doubled or rows_out * columns_out <= 8 * 8
        is_worth_lists = not is_point and channels >= 256 and is_late
    else:
        is_worth_lists = is_image and (not is_point or height * width < 28 * 28)
    if is_image and is_worth_lists and "sparse_quad" in may:
        outputs = min(128, table["sparse_quad"].usual_outputs)
        return Kernel("sparse_quad", block_outputs=outputs, list_block=table["sparse_quad"].list_blocks(asked)[-1])
    if not is_image:
        return Kernel("quad", block_outputs=32)
    return Kernel("quad", block_outputs=128 if has_dot_products and not speed.is_doubled else 256)


def _winograd_of_dots(step: Step, may: set[str], speed: Rates) -> Kernel:
    """Winograd by dot products, by the fast inner product where that is faster.

    Where dot products are doubled, few channels do not make up for its sums.
    """
    channels = stored_shape(step.input)[0]
    is_few = speed.is_doubled and channels <= 64
    return WINOGRAD_INNER if "winograd_inner" in may and speed.has_ports_for_sums and not is_few else WINOGRAD_QUAD


def _is_worth_inner(step: Step, speed: Rates) -> bool:
    """Whether ``inner`` beats lists of pairs: in 1x1 layers but for late ones, where most pairs are zero.

    Late ones have small results, or many channels on both sides (measured: docs/log/performance.md). It also wins where
    outputs are few, if there are enough inputs to make up for the sums of pixels. Where dot products are doubled it
    wins in larger windows of early layers too.
    """
    channels = stored_shape(step.input)[0]
    outputs, height, width = stored_shape(step.result)
    if step.body_as(Conv).window.kernel_size != (1, 1):
        return speed.is_doubled and height * width >= 28 * 28 and channels >= 64 and outputs > 64
    if height * width < 14 * 14:
        return False
    if outputs <= 64:
        return channels >= 256
    return channels >= 64 and not (channels >= 1024 and outputs >= 512)


def _is_worth_pairs_of_dots(step: Step) -> bool:
    """Whether skipping zeros gains more: late layers, with small results, have most (see docs/log/performance.md)."""
    channels = stored_shape(step.input)[0]
    if step.body_as(Conv).window.kernel_size != (1, 1):
        return channels >= 256
    _, height, width = stored_shape(step.result)
    return channels >= 512 and height * width <= 8 * 8


def _neon_kernel(
    step: Step, table: dict[str, _native.KernelRow], asked: _native.ConvLayer, may: set[str]
) -> Kernel | None:
    """The default where products of bytes are signed by signed, as in NEON; ``None``: the same as elsewhere.

    It is derived from the number of instructions in the loops, not measured on a board. Pairs gain nothing. With dot
    products a dense layer takes 1.2 instructions for 16 products and a list two, so that lists are slower although they
    skip zeros; Winograd takes 4/9 of the products. Without dot products, single channels are zero more often than
    pairs, and a product costs an eighth of an instruction in both cases. With sums of 32 outputs, an entry of a list
    has too little work.
    """
    has_dot_products = table["quad"].has_dot_products
    _, height, width = stored_shape(step.input)
    is_image = height * width > 1
    if has_dot_products:
        if "winograd_quad" in may and _fills_squares(step, least=36):
            return _usual("winograd_quad", table)
        if "quad" in may:
            return _usual("quad", table) if is_image else Kernel("quad", block_outputs=32)
    if "winograd" in may and _is_worth_winograd(step):
        return _usual("winograd", table)
    if "sparse_single" in may and step.result.shape[0] > 32 and is_image:
        row = table["sparse_single"]
        return Kernel("sparse_single", block_outputs=row.usual_outputs, list_block=row.list_blocks(asked)[-1])
    return SINGLE if "single" in may else None


def _usual(name: str, table: dict[str, _native.KernelRow]) -> Kernel:
    """A kernel of a method that reads no lists, with block sizes that suit it."""
    return Kernel(name, block_outputs=table[name].usual_outputs, tile_pixels=table[name].usual_pixels)


def _is_worth_pairs(step: Step, conv: Conv, has_lists: bool) -> bool:
    """Whether dense pairs, if allowed, are faster than the other methods with 16-bit sums, without dot products.

    Signed inputs have no lists. Unsigned ones have, but with few outputs an entry of a list has little work, and early
    layers, on large images, have few zeros.
    """
    if step.input.dtype.is_signed or step.input.dtype.maximum > 127:
        return True
    if not has_lists:
        return False
    _, height, width = stored_shape(step.input)
    outputs = conv.weight.shape[0]
    least = 28 * 28 if outputs <= 64 else 56 * 56
    return conv.window.kernel_size == (1, 1) and outputs <= 128 and height * width >= least


def _is_worth_chains(step: Step, conv: Conv) -> bool:
    """Whether only few weights are too large for products of bytes.

    Four products of neighbours cost the wide method four vector operations, and the chained one two to three, once for
    each part that the weights are split into.
    """
    source = step.input.dtype
    limit = 32767 // (255 if source.is_signed else source.maximum)
    weights = conv.weight.numpy().astype(np.int32)
    taps = np.moveaxis(weights.reshape(len(weights), weights.shape[1], -1), 1, 2).reshape(len(weights), -1)
    quads = np.pad(taps, ((0, 0), (0, -taps.shape[1] % 4))).reshape(len(weights), -1, 2, 2)
    above, below = np.maximum(quads, 0).sum(-1), np.maximum(-quads, 0).sum(-1)
    is_split = (np.maximum(above, below) > limit).any((0, 2))
    return float(is_split.mean()) <= 1 / 3


def _is_worth_winograd(step: Step) -> bool:
    """Whether 16 products in place of 36 gain more than skipping zeros, which are few in early layers."""
    return stored_shape(step.input)[0] <= 256 and _fills_squares(step)


def _is_worth_winograd_quad(step: Step, may: set[str]) -> bool:
    """Whether Winograd is faster, for layers that 16-bit sums can run too: there lists are faster in late layers."""
    return _fills_squares(step) and ("winograd" not in may or _is_worth_winograd(step))


def _fills_squares(step: Step, least: int = 64) -> bool:
    """Whether Winograd wastes little: few channels leave padding in vectors, small images leave it in squares.

    ``least`` is the smallest number of pixels.
    """
    channels, height, width = stored_shape(step.input)
    return channels >= 32 and height * width >= least
