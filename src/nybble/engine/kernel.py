"""Kernel choice: how a convolution or linear layer runs, and the untuned default for it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nybble import _native
from nybble.engine.layout import is_tight, stored_channels, stored_shape
from nybble.graph import Conv2d, Graph, Linear
from nybble.graph.nodes import Padding, Pair

#: Channels in a group of the lists that a method reads.
LIST_GROUPS = {"sparse": 2, "sparse_quad": 4}


@dataclass(frozen=True)
class Kernel:
    """How a convolution runs.

    ``method`` is ``direct`` (any types and groups), ``sparse`` (lists of non-zero channel pairs, 16-bit
    sums), ``sparse_quad`` (lists of non-zero groups of four, 32-bit sums), ``wide`` (32-bit sums, any types),
    ``chained`` (any types, four bytes at a time, 16-bit sums over what the weights allow), ``quad`` (32-bit sums, four
    bytes at a time), ``winograd`` (3x3 windows of stride 1, 16-bit sums, zeros not skipped), ``pair`` (two
    bytes at a time, 16-bit sums, zeros not skipped) or ``grouped`` (any number of groups, depthwise above all, 16-bit
    sums over what the weights allow). Pairs take what :func:`can_pair` allows. The quads take unsigned
    inputs of at most 127, or any where the instruction set has dot products; the sparse methods take unsigned inputs;
    Winograd takes u4 by weights of at most 8 in size.
    ``block_outputs`` output channels are computed together, for ``tile_pixels`` pixels at a time (Winograd: squares of
    2x2 pixels, at most, so that they stay in L2);
    ``visit_bytes`` of weights are kept in L1 while they pass; ``list_block`` groups make a block of a list.
    """

    method: str
    block_outputs: int = 256
    tile_pixels: int = 64
    visit_bytes: int = 24 << 10
    list_block: int = 0


#: What suits Winograd: outputs in registers, squares in L2.
WINOGRAD = Kernel("winograd", block_outputs=128, tile_pixels=32)

#: What suits dense pairs: a tile of inputs and a block of weights in L1.
PAIR = Kernel("pair", tile_pixels=32)


@dataclass(frozen=True)
class Window:
    """Geometry of a convolution; a linear layer is one whose window is its whole input."""

    kernel: Pair
    stride: Pair = Pair(1, 1)
    padding: Padding = Padding()
    dilation: Pair = Pair(1, 1)
    groups: int = 1


def window(graph: Graph, head: Conv2d | Linear) -> Window:
    """Geometry of a convolution or linear layer."""
    if isinstance(head, Linear):
        shape = graph.values[head.inputs[0]].shape
        return Window(Pair(*shape[1:]) if len(shape) == 3 else Pair(1, 1))
    return Window(head.kernel_size, head.stride, head.padding, head.dilation, head.groups)


def choose_kernel(graph: Graph, head: Conv2d | Linear, isa: str) -> Kernel:
    """The untuned default for a convolution or linear layer on an instruction set."""
    if isa != "scalar" and can_group(graph, head):
        return Kernel("grouped")
    if isa == "scalar" or not can_vectorize(graph, head):
        return Kernel("direct")
    source = graph.values[head.inputs[0]]
    has_dot_products = _native.quad_takes_any(isa)
    if _is_worth_winograd(graph, head):
        return WINOGRAD
    if not has_dot_products and _is_worth_pairs(graph, head):
        return PAIR
    # Sums of 64 outputs are two vectors, too few to hide the ends of lists: dense dot products are faster there.
    is_narrow = has_dot_products and head.weight.shape[0] <= 64
    if not is_narrow and not source.dtype.is_signed and not is_tight(graph, head.inputs[0]):
        # Pairs of a list block whose worst sum fits 16 bits, whatever the weights of this type are.
        pairs = _native.list_block_pairs(source.dtype.maximum, head.weight.dtype.magnitude)
        if pairs:
            return Kernel("sparse", block_outputs=192 if isa == "avx2" else 256, list_block=pairs)
    if not has_dot_products and (source.dtype.is_signed or source.dtype.maximum > 127):
        return Kernel("chained" if _is_worth_chains(graph, head) else "wide", block_outputs=64)
    is_image = len(source.shape) == 3 and source.shape[1] * source.shape[2] > 1
    # A dot product costs one instruction: skipping zeros pays where a list is read often and quads are rarely full.
    # Without dot products it costs three, and skipping pays but where few quads are zero and lists are read once: in
    # pointwise layers on large images, which are early ones.
    is_point = window(graph, head).kernel == (1, 1)
    if has_dot_products:
        is_worth_lists = not is_point and source.shape[0] >= 256
    else:
        is_worth_lists = is_image and (not is_point or source.shape[1] * source.shape[2] < 28 * 28)
    if is_image and is_worth_lists and not source.dtype.is_signed and not is_tight(graph, head.inputs[0]):
        return Kernel("sparse_quad", block_outputs=96 if isa == "avx2" else 128, list_block=64)
    if not is_image:
        return Kernel("quad", block_outputs=32)
    return Kernel("quad", block_outputs=128 if has_dot_products else 256)


def _is_worth_pairs(graph: Graph, head: Conv2d | Linear) -> bool:
    """Whether dense pairs are faster than what else 16-bit sums allow, without dot products.

    Signed inputs have no lists. Unsigned ones do, but few outputs leave little work for an entry of a list, and early
    layers, on large images, have few zeros.
    """
    if not can_pair(graph, head):
        return False
    source = graph.values[head.inputs[0]]
    if source.dtype.is_signed or source.dtype.maximum > 127:
        return True
    if not _native.list_block_pairs(source.dtype.maximum, head.weight.dtype.magnitude):
        return False
    _, rows, columns = stored_shape(graph, head.inputs[0])
    outputs = head.weight.shape[0]
    least = 28 * 28 if outputs <= 64 else 56 * 56
    return window(graph, head).kernel == (1, 1) and outputs <= 128 and rows * columns >= least


def _is_worth_chains(graph: Graph, head: Conv2d | Linear) -> bool:
    """Whether few weights are too large for products of bytes.

    Four products of neighbours cost the wide method four vector operations, and the chained one two to three, once for
    each part that the weights are split into.
    """
    source = graph.values[head.inputs[0]].dtype
    limit = 32767 // (255 if source.is_signed else source.maximum)
    weights = head.weight.numpy().astype(np.int32)
    taps = np.moveaxis(weights.reshape(len(weights), weights.shape[1], -1), 1, 2).reshape(len(weights), -1)
    quads = np.pad(taps, ((0, 0), (0, -taps.shape[1] % 4))).reshape(len(weights), -1, 2, 2)
    above, below = np.maximum(quads, 0).sum(-1), np.maximum(-quads, 0).sum(-1)
    is_split = (np.maximum(above, below) > limit).any((0, 2))
    return float(is_split.mean()) <= 1 / 3


def can_winograd(graph: Graph, head: Conv2d | Linear) -> bool:
    """Whether the Winograd method may run a layer, where the instruction set has it."""
    place = window(graph, head)
    dtype = graph.values[head.inputs[0]].dtype
    if (place.kernel, place.stride, place.dilation, place.groups) != ((3, 3), (1, 1), (1, 1), 1):
        return False
    if dtype.is_signed or dtype.maximum > _native.WINOGRAD_MAGNITUDE or is_tight(graph, head.inputs[0]):
        return False
    return bool(head.weight.dtype.magnitude <= _native.WINOGRAD_WEIGHT)


def _is_worth_winograd(graph: Graph, head: Conv2d | Linear) -> bool:
    """Whether 16 products in place of 36 win more than skipping zeros: these are few in early layers.

    Few channels leave padding in the vectors, and small images in the squares.
    """
    if not can_winograd(graph, head):
        return False
    channels, rows, columns = stored_shape(graph, head.inputs[0])
    return 32 <= channels <= 256 and rows * columns >= 64


def can_vectorize(graph: Graph, head: Conv2d | Linear) -> bool:
    """Whether the methods for layers without groups may run a layer."""
    return window(graph, head).groups == 1 and _staged_bytes(graph, head) <= _MOST_STAGED


def can_pair(graph: Graph, head: Conv2d | Linear) -> bool:
    """Whether the method for pairs may run a layer, where the instruction set has it: by type, four pairs fit 16 bits.

    Signed inputs get an offset that makes them unsigned: they are 0 to 255, or 0 to 15.
    """
    if not can_vectorize(graph, head) or is_tight(graph, head.inputs[0]):
        return False
    dtype = graph.values[head.inputs[0]].dtype
    return 8 * (dtype.maximum - dtype.minimum) * int(head.weight.dtype.magnitude) < 1 << 15


def can_group(graph: Graph, head: Conv2d | Linear) -> bool:
    """Whether the method for groups is meant for a layer and may run it, where the instruction set has it."""
    place = window(graph, head)
    if place.groups == 1 or is_tight(graph, head.inputs[0]):
        return False
    # Two bytes for each of 32 outputs and each pair of inputs of a group.
    pairs = -(-head.weight.shape[1] // 2)
    return place.kernel.rows * _staged_columns(place) * pairs * 2 * int(_native.CHANNEL_ALIGN) <= _MOST_STAGED


#: Bytes of input rows that a thread may hold for one output row; windows with holes can ask for gigabytes.
_MOST_STAGED = 64 << 20


def _staged_bytes(graph: Graph, head: Conv2d | Linear) -> int:
    """What the methods with 32-bit sums copy for one task, at most."""
    place = window(graph, head)
    return 2 * place.kernel.rows * _staged_columns(place) * stored_channels(graph, head.inputs[0])


def _staged_columns(place: Window) -> int:
    """Columns of the input that a task reads, at most."""
    return 63 * place.stride.columns + (place.kernel.columns - 1) * place.dilation.columns + 1
