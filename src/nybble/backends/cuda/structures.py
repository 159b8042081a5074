"""Parameters of kernels, with the layout of the structures in ``native/gpu/kernels``. Pointers are device addresses."""

from __future__ import annotations

import ctypes
from ctypes import c_float, c_int32, c_int64, c_uint64

S32_LOW, S32_HIGH = -(1 << 31), (1 << 31) - 1


class Tensor(ctypes.Structure):
    """A value in device memory, or none if ``data`` is 0. ``pitch``: channels from one pixel to the next."""

    _fields_ = (
        ("data", c_uint64),
        ("form", c_int32),
        ("is_signed", c_int32),
        ("pitch", c_int32),
        ("channels", c_int32),
    )


class Epilogue(ctypes.Structure):
    """What happens to sums before they are stored."""

    _fields_ = (
        ("out", Tensor),
        ("shortcut", Tensor),
        ("shortcut_factor", c_uint64),
        ("factor", c_uint64),
        ("negative_factor", c_uint64),
        ("table", c_uint64),
        ("shortcut_shift", c_int32),
        ("shortcut_is_narrow", c_int32),
        ("relu_low", c_int32),
        ("relu_high", c_int32),
        ("requantize", c_int32),
        ("shift", c_int32),
        ("low", c_int32),
        ("high", c_int32),
        ("table_low", c_int32),
    )


class ConvParams(ctypes.Structure):
    """Convolution as a matrix product."""

    _fields_ = (
        ("epilogue", Epilogue),
        ("input", c_uint64),
        ("weights", c_uint64),
        ("bias", c_uint64),
        *((name, c_int32) for name in ("input_bytes", "height", "width", "rows", "out_height", "out_width")),
        *((name, c_int32) for name in ("kernel_h", "kernel_w", "stride_h", "stride_w")),
        *((name, c_int32) for name in ("pad_top", "pad_left", "dilation_h", "dilation_w")),
    )


class JoinParams(ctypes.Structure):
    """A convolution whose sums begin with those of a projection."""

    _fields_ = (("conv", ConvParams), ("projection", ConvParams))


class Window(ctypes.Structure):
    """Geometry of a window, with the extents of input and result."""

    _fields_ = (
        *((name, c_int32) for name in ("height", "width", "out_height", "out_width")),
        *((name, c_int32) for name in ("kernel_h", "kernel_w", "stride_h", "stride_w")),
        *((name, c_int32) for name in ("pad_top", "pad_left", "dilation_h", "dilation_w")),
    )


class InputParams(ctypes.Structure):
    """Converts the network's input or photos to the stored form."""

    _fields_ = (
        ("out", Tensor),
        ("source", c_uint64),
        ("table", c_uint64),
        *((name, c_int32) for name in ("pixels", "image_pixels", "channel_step", "pixel_step")),
    )


class StemParams(ctypes.Structure):
    """A network's first convolution, with the pool that follows."""

    _fields_ = (
        ("epilogue", Epilogue),
        ("source", c_uint64),
        ("table", c_uint64),
        ("weights", c_uint64),
        ("bias", c_uint64),
        *((name, c_int32) for name in ("height", "width", "channels", "channel_step", "pixel_step")),
        *((name, c_int32) for name in ("kernel_h", "stride_h", "stride_w", "pad_top", "pad_left", "dilation_h")),
        *((name, c_int32) for name in ("conv_height", "conv_width")),
        *((name, c_int32) for name in ("pool_kernel_h", "pool_kernel_w", "pool_stride_h", "pool_stride_w")),
        *((name, c_int32) for name in ("pool_pad_top", "pool_pad_left", "pool_dilation_h", "pool_dilation_w")),
        *((name, c_int32) for name in ("out_height", "out_width")),
        *((name, c_int32) for name in ("tile_h", "tile_w", "tiles_down", "tiles_across")),
        *((name, c_int32) for name in ("region_h", "region_w", "patch_h", "patch_w")),
    )


class GroupedParams(ctypes.Structure):
    """Convolution of several groups."""

    _fields_ = (
        ("epilogue", Epilogue),
        ("input", Tensor),
        ("weights", c_uint64),
        ("bias", c_uint64),
        ("window", Window),
        *((name, c_int32) for name in ("pixels", "group_inputs", "group_outputs")),
    )


class PoolParams(ctypes.Structure):
    """Maxima or averages of windows."""

    _fields_ = (
        ("input", Tensor),
        ("out", Tensor),
        ("window", Window),
        *((name, c_int32) for name in ("pixels", "pad_bottom", "pad_right", "average", "count_padding")),
    )


class PointParams(ctypes.Structure):
    """Element-wise steps."""

    _fields_ = (
        ("epilogue", Epilogue),
        ("input", Tensor),
        ("other", Tensor),
        ("input_factor", c_uint64),
        *((name, c_int32) for name in ("pixels", "image_pixels", "is_gate", "input_shift")),
    )


#: Largest number of values that one concatenation joins.
MOST_PARTS = 16


class ConcatParams(ctypes.Structure):
    """Channels of several values, one after the other."""

    _fields_ = (("out", Tensor), ("part", Tensor * MOST_PARTS), ("pixels", c_int32), ("parts", c_int32))


class ScaleParams(ctypes.Structure):
    """Sums to real logits."""

    _fields_ = (
        ("input", Tensor),
        ("out", Tensor),
        ("scale", c_uint64),
        ("input_factor", c_uint64),
        ("pixels", c_int32),
        ("input_shift", c_int32),
    )


class MoveParams(ctypes.Structure):
    """Operations that only move codes."""

    _fields_ = (
        ("input", Tensor),
        ("out", Tensor),
        *((name, c_uint64) for name in ("rows", "columns", "row_maps", "column_maps", "channels")),
        *((name, c_int32) for name in ("pixels", "height", "width", "out_height", "out_width", "map_pitch")),
    )


class Axis(ctypes.Structure):
    """For each row or column of the result, the neighbours in the input."""

    _fields_ = (("low", c_uint64), ("high", c_uint64), ("weight", c_uint64), ("divisor", c_int32))


class BilinearParams(ctypes.Structure):
    """Bilinear interpolation."""

    _fields_ = (
        ("input", Tensor),
        ("out", Tensor),
        ("rows", Axis),
        ("columns", Axis),
        *((name, c_int32) for name in ("pixels", "height", "width", "out_height", "out_width")),
    )


class QuantizeParams(ctypes.Structure):
    """Converts normalised photos to the integers of the network's input."""

    _fields_ = (
        ("source", c_uint64),
        ("out", c_uint64),
        ("found", c_uint64),
        ("count", c_int64),
        *((name, c_float) for name in ("numerator", "denominator", "low", "high")),
    )


class ProbeParams(ctypes.Structure):
    """Registers of single instructions, and their results."""

    _fields_ = tuple((name, c_uint64) for name in ("a", "b", "sums", "rows", "values", "out"))


#: Structure of each kernel's parameters, by what its name begins with.
PARAMS: dict[str, type[ctypes.Structure]] = {
    "conv_": ConvParams,
    "join_": JoinParams,
    "stem_": StemParams,
    "layer_input": InputParams,
    "layer_grouped": GroupedParams,
    "layer_depthwise": GroupedParams,
    "layer_pool": PoolParams,
    "layer_point": PointParams,
    "layer_concat": ConcatParams,
    "layer_scale": ScaleParams,
    "layer_move": MoveParams,
    "layer_bilinear": BilinearParams,
    "layer_quantize": QuantizeParams,
    "layer_probe": ProbeParams,
}
