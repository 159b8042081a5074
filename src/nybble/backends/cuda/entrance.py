"""The first launches of a network, which read its input or photos."""

from __future__ import annotations

import numpy as np

from nybble.backends.cuda import structures
from nybble.backends.cuda.builder import Builder, padded_channels
from nybble.backends.cuda.device import Launch
from nybble.backends.cuda.kernels import THREADS
from nybble.backends.cuda.packing import pack_channels
from nybble.backends.cuda.stem import COLUMNS, Stem
from nybble.graph import Preprocessing
from nybble.lower import Conv


def entrance(builder: Builder, source: int, preprocessing: Preprocessing | None) -> Launch:
    """The launch that reads the input: integers (N, C, H, W), or photos (N, H, W, C) with their preprocessing.

    It computes the stem, if the plan has one; else it converts the input to its stored form.
    """
    entry = builder.plan.input
    is_photo = preprocessing is not None
    common = {
        "source": source,
        "table": builder.constants.add(preprocessing.table()) if preprocessing is not None else 0,
        "channel_step": 1 if is_photo else entry.pixels,
        "pixel_step": entry.channels if is_photo else 1,
    }
    stem = builder.plan.stem
    if stem is not None:
        return _stem(stem, builder, common)
    params = structures.InputParams(
        out=builder.tensor(entry.value), pixels=builder.pixels(entry.value), image_pixels=entry.pixels, **common
    )
    return Launch("layer_input", builder.layer_grid(entry.value), params)


#: Numbers that one thread of ``layer_quantize`` converts.
QUANTIZED = 16


def words_found(count: int) -> int:
    """Number of words in which ``layer_quantize`` reports whether any of ``count`` numbers is NaN."""
    return -(-count // QUANTIZED)


def quantizing(source: int, target: int, found: int, count: int, preprocessing: Preprocessing) -> Launch:
    """The launch that converts normalised float32 numbers to integers, which :func:`entrance` then reads.

    Parameters
    ----------
    source, target, found : int
        Addresses of the numbers; of the integers, a multiple of :data:`QUANTIZED`; and of :func:`words_found`, where
        others than 0 stand for NaN.
    count : int
    preprocessing : Preprocessing
    """
    high = float(preprocessing.input_type.maximum)
    params = structures.QuantizeParams(
        source=source,
        out=target,
        found=found,
        count=count,
        numerator=preprocessing.scale_numerator,
        denominator=preprocessing.scale_denominator,
        low=-high if preprocessing.input_type.is_signed else 0.0,
        high=high,
    )
    return Launch("layer_quantize", (-(-words_found(count) // THREADS), 1), params)


def _stem(stem: Stem, builder: Builder, common: dict[str, int]) -> Launch:
    conv = stem.conv.body_as(Conv)
    result = stem.steps[-1].result
    bias = np.zeros(0) if conv.bias is None else conv.bias.numpy()
    stored, tile, window = builder.stored(result), stem.tile, conv.window
    source, between = builder.stored(stem.conv.input), builder.stored(stem.conv.result)
    pool = builder.window(stem.pool_window, stem.conv.result, result)
    shared = ("kernel_h", "kernel_w", "stride_h", "stride_w", "pad_top", "pad_left", "dilation_h", "dilation_w")
    down, across = tile.blocks(stored.extents)
    params = structures.StemParams(
        epilogue=builder.epilogue(stem.conv, result),
        weights=builder.constants.add(stem.pack()),
        bias=builder.constants.add(pack_channels(bias, np.int32, padded_channels(stored))),
        height=source.extents[0],
        width=source.extents[1],
        channels=source.channels,
        kernel_h=window.kernel_size.rows,
        stride_h=window.stride.rows,
        stride_w=window.stride.columns,
        pad_top=window.padding.top,
        pad_left=window.padding.left,
        dilation_h=window.dilation.rows,
        conv_height=between.extents[0],
        conv_width=between.extents[1],
        **{f"pool_{name}": getattr(pool, name) for name in shared},
        out_height=stored.extents[0],
        out_width=stored.extents[1],
        tile_h=tile.height,
        tile_w=tile.width,
        tiles_down=down,
        tiles_across=across,
        region_h=tile.region[0],
        region_w=tile.region[1],
        patch_h=tile.patch[0],
        patch_w=tile.patch[1],
        **common,
    )
    return Launch(stem.kernel, (builder.images * down * across, -(-stored.pitch // COLUMNS)), params)
