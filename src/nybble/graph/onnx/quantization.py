"""QuantizeLinear and DequantizeLinear: between real numbers and integers with zero point 0."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto

from nybble.graph.onnx.errors import OnnxImportError
from nybble.graph.onnx.load import attribute, label
from nybble.graph.onnx.values import Constant, Outside, Real, Stored, Value, are_same
from nybble.graph.types import Array, DType

if TYPE_CHECKING:
    from nybble.graph.onnx.importer import Importer

SYMMETRIC = (
    "quantize symmetrically: quantize_static(..., extra_options={'ActivationSymmetric': True, 'WeightSymmetric': True})"
)
#: Of each ONNX type: what it is here with one zero point or another, which is taken away.
_TYPES = {
    TensorProto.UINT8: {0: DType.U8, 128: DType.S8},
    TensorProto.INT8: {0: DType.S8, -128: DType.U8},
    TensorProto.UINT4: {0: DType.U4, 8: DType.S4},
    TensorProto.INT4: {0: DType.S4, -8: DType.U4},
}


def quantize_linear(importer: Importer, node: onnx.NodeProto) -> Value:
    """Real numbers to an activation; a float input to an input of the graph; a constant to a constant."""
    found = importer.value(node, 0)
    kind = _kind(importer, node, attribute(node, "output_dtype", 0) or TensorProto.UINT8)
    if isinstance(found, Constant):
        return _quantized(importer, node, found, kind)
    dtype, zero = _symmetric(importer, node, kind)
    scale = _scale(importer, node)
    if isinstance(found, Outside):
        value = importer.build.enter(found.name, dtype, found.shape)
        if value not in importer.input_scales and len(importer.readers[node.input[0]]) > 1:
            raise OnnxImportError(f"the input {found.name!r} is quantized more than once", node=label(node))
        importer.input_scales[value] = scale
        return Stored(value, zero)
    real = importer.real(node, 0)
    return Stored(
        importer.build.quantize(real, scale, dtype, label(node)), zero, real.flat, real.padding, real.filling / scale
    )


def dequantize_linear(importer: Importer, node: onnx.NodeProto) -> Value:
    """An activation to real numbers; integer constants to real ones."""
    found = importer.value(node, 0)
    if isinstance(found, Constant):
        return _dequantized(importer, node, found)
    if not isinstance(found, Stored):
        raise OnnxImportError("DequantizeLinear reads no integers", node=label(node))
    zero = _zero_points(importer, node)
    if np.any(zero != found.zero):
        raise OnnxImportError(f"its zero point differs from QuantizeLinear's, {found.zero}", node=label(node))
    unit = np.full(importer.build.types[found.value].shape[0], _scale(importer, node))
    return Real(found.value, unit, False, flat=found.flat, padding=found.padding, filling=found.filling * unit[0])


def _kind(importer: Importer, node: onnx.NodeProto, default: int) -> int:
    """The ONNX element type that QuantizeLinear makes."""
    if not importer.has(node, 2):
        return default
    return importer.kinds.get(node.input[2], default)


def _symmetric(importer: Importer, node: onnx.NodeProto, kind: int) -> tuple[DType, int]:
    """The type that an activation has here, and the zero point that this takes away."""
    if kind not in _TYPES:
        name = onnx.helper.tensor_dtype_to_string(kind)
        raise OnnxImportError(
            f"activations of type {name} are not supported: quantize to 4 or 8 bits", node=label(node)
        )
    known = _TYPES[kind]
    zeros = _zero_points(importer, node)
    zero = int(zeros.reshape(-1)[0])
    if np.any(zeros != zero) or zero not in known:
        raise OnnxImportError(
            f"its zero point is {zero}, but the engine's activations are symmetric or not negative (here "
            f"{' or '.join(map(str, known))}): {SYMMETRIC}",
            node=label(node),
        )
    return known[zero], zero


def _zero_points(importer: Importer, node: onnx.NodeProto) -> Array:
    return importer.constant(node, 2, "zero point").real if importer.has(node, 2) else np.zeros(1, np.int64)


def _scales(importer: Importer, node: onnx.NodeProto) -> Array:
    scales = importer.constant(node, 1, "scale").real.astype(np.float64)
    if not scales.size or not np.all(np.isfinite(scales)) or np.any(scales <= 0):
        raise OnnxImportError("its scale is not a positive number", node=label(node))
    if attribute(node, "block_size", 0):
        raise OnnxImportError("scales of blocks are not supported: quantize per channel", node=label(node))
    return scales


def _scale(importer: Importer, node: onnx.NodeProto) -> float:
    scales = _scales(importer, node).reshape(-1)
    if not are_same(scales, scales[0]):
        raise OnnxImportError("activations with a scale for each channel are not supported", node=label(node))
    return float(scales[0])


def _axis(node: onnx.NodeProto, scales: Array, shape: tuple[int, ...]) -> int | None:
    """The axis of per-channel scales; ``None`` for one scale."""
    if scales.size == 1:
        return None
    axis = attribute(node, "axis", 1)
    axis += len(shape) if axis < 0 else 0
    if scales.ndim != 1 or not 0 <= axis < len(shape) or shape[axis] != scales.size:
        raise OnnxImportError(f"{scales.size} scales do not fit a constant of shape {shape}", node=label(node))
    return axis


def _along(values: Array, axis: int | None, rank: int) -> Array:
    if values.size == 1:
        return values.reshape(())
    return values.reshape([-1 if index == axis else 1 for index in range(rank)])


def _dequantized(importer: Importer, node: onnx.NodeProto, found: Constant) -> Constant:
    scales = _scales(importer, node)
    shape = found.real.shape
    axis = _axis(node, scales, shape)
    zeros = _zero_points(importer, node).astype(np.int64)
    if zeros.size not in (1, scales.size):
        raise OnnxImportError("has another number of zero points than scales", node=label(node))
    if found.real.dtype.kind not in "iu":
        raise OnnxImportError("DequantizeLinear reads no integers", node=label(node))
    integers = found.real.astype(np.int64) - _along(zeros, axis, len(shape))
    real = integers * _along(scales, axis, len(shape))
    kind = importer.kinds.get(node.input[0])
    dtype = (
        DType.S32
        if kind == TensorProto.INT32
        else DType.S4
        if kind in (TensorProto.INT4, TensorProto.UINT4)
        else DType.S8
    )
    return Constant(real, integers, dtype, scales.reshape(-1), axis)


def _quantized(importer: Importer, node: onnx.NodeProto, found: Constant, kind: int) -> Constant:
    if kind not in _TYPES:
        raise OnnxImportError("weights of this type are not supported: quantize to 4 or 8 bits", node=label(node))
    scales = _scales(importer, node)
    axis = _axis(node, scales, found.real.shape)
    zeros = _along(_zero_points(importer, node).astype(np.int64), axis, found.real.ndim)
    dtype = _TYPES[kind][0]
    stored = np.rint(found.real.astype(np.float64) / _along(scales, axis, found.real.ndim)) + zeros
    importer.kinds[node.output[0]] = kind
    return Constant(np.clip(stored, dtype.minimum, dtype.maximum).astype(np.int64))
