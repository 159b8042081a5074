"""QuantizeLinear and DequantizeLinear: between real numbers and integers with zero point 0."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
from onnx import TensorProto

from nybble.graph.onnx.errors import OnnxImportError
from nybble.graph.onnx.load import attribute, label
from nybble.graph.onnx.operators.importing import Importing
from nybble.graph.onnx.operators.registry import reads
from nybble.graph.onnx.values import Constant, Outside, Real, Stored, Value, are_same, channel_axis
from nybble.graph.types import Array, DType

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
#: What the integers of constants are held in.
_RANGES = {
    TensorProto.UINT8: (0, 255),
    TensorProto.INT8: (-128, 127),
    TensorProto.UINT4: (0, 15),
    TensorProto.INT4: (-8, 7),
    TensorProto.INT32: (-(1 << 31), (1 << 31) - 1),
}


@reads("QuantizeLinear", takes_padding=True)
def quantize_linear(importer: Importing, node: onnx.NodeProto) -> Value:
    """Real numbers to an activation; a float input to an input of the graph; a constant to a constant."""
    found = importer.value(node, 0)
    if isinstance(found, Constant):
        return _quantized(importer, node, found)
    dtype, zero = stored_type(importer, node)
    if isinstance(found, Outside):
        scales = scales_of(importer, node).reshape(-1)
        if not are_same(scales, scales[0]):
            raise OnnxImportError(
                "the input has a scale for each channel, which is not supported: quantize it with one scale",
                node=label(node),
            )
        return _entered(importer, node, found, Stored("", zero, layout=found.layout), dtype, float(scales[0]))
    real = importer.real(node, 0)
    scale = activation_scale(importer, node, real)
    value = importer.build.quantize(real, scale, dtype, label(node))
    filling = real.filling / float(scale[0])
    return Stored(value, zero, real.flat, real.padding, filling, real.layout)


def _entered(
    importer: Importing, node: onnx.NodeProto, found: Outside, stored: Stored, dtype: DType, scale: float
) -> Stored:
    """A float input as an input of the graph; several QuantizeLinear nodes may read it if they say the same."""
    before = importer.entered.get(found.name)
    if before is not None:
        if before[1:] != (stored.zero, dtype, scale):
            raise OnnxImportError(
                f"the input {found.name!r} is quantized more than once, with different scales or types",
                node=label(node),
            )
        return replace(stored, value=before[0])
    value = importer.build.enter(found.name, dtype, found.shape)
    importer.input_scales[value] = scale
    importer.entered[found.name] = (value, stored.zero, dtype, scale)
    if len(importer.readers[node.input[0]]) > 1:
        importer.build.shared.add(value)
    return replace(stored, value=value)


@reads("DequantizeLinear")
def dequantize_linear(importer: Importing, node: onnx.NodeProto) -> Value:
    """An activation to real numbers; integer constants to real ones."""
    found = importer.value(node, 0)
    if isinstance(found, Constant):
        return _dequantized(importer, node, found)
    if not isinstance(found, Stored):
        raise OnnxImportError("DequantizeLinear reads no integers", node=label(node))
    zero = _zero_points(importer, node)
    if np.any(zero != found.zero):
        raise OnnxImportError(f"its zero point differs from QuantizeLinear's, {found.zero}", node=label(node))
    unit = activation_scale(importer, node, found)
    if found.padding is not None and found.filling and np.any(unit != unit[0]):
        raise OnnxImportError("is padded, with a scale for each channel; pad with 0", node=label(node))
    filling = found.filling * float(unit[0])
    return Real(found.value, unit, False, flat=found.flat, padding=found.padding, filling=filling, layout=found.layout)


def stored_type(importer: Importing, node: onnx.NodeProto) -> tuple[DType, int]:
    """The type that a QuantizeLinear's activation has here, and the zero point that this takes away."""
    kind = _kind(importer, node)
    if kind not in _TYPES:
        name = onnx.helper.tensor_dtype_to_string(kind) if kind in TensorProto.DataType.values() else str(kind)
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


def activation_scale(importer: Importing, node: onnx.NodeProto, seen: Real | Stored) -> Array:
    """The scale of each channel, float64 (channels), of a QuantizeLinear or DequantizeLinear of an activation."""
    scales = scales_of(importer, node)
    if np.any(scales == 0):
        raise OnnxImportError("its scale is not a positive number", node=label(node))
    shape = importer.build.types[seen.value].shape
    if are_same(scales, scales.reshape(-1)[0]):
        return np.full(shape[0], float(scales.reshape(-1)[0]))
    rank = 2 if seen.flat or len(shape) == 1 else 4
    axis = attribute(node, "axis", 1)
    axis += rank if axis < 0 else 0
    if scales.shape != (shape[0],) or axis != channel_axis(seen, shape):
        raise OnnxImportError(
            f"its {scales.size} scales along axis {axis} are not one per channel: quantize activations with one scale, "
            "or with one per channel",
            node=label(node),
        )
    return scales.reshape(-1)


def _kind(importer: Importing, node: onnx.NodeProto) -> int:
    """The ONNX element type that QuantizeLinear makes."""
    if importer.has(node, 2):
        return importer.constant(node, 2, "zero point").kind
    return attribute(node, "output_dtype", 0) or int(TensorProto.UINT8)


def _zero_points(importer: Importing, node: onnx.NodeProto) -> Array:
    if not importer.has(node, 2):
        return np.zeros(1, np.int64)
    zeros = importer.constant(node, 2, "zero point").real
    if zeros.dtype.kind not in "iu" or not zeros.size:
        raise OnnxImportError("its zero point is not an integer", node=label(node))
    return zeros


def scales_of(importer: Importing, node: onnx.NodeProto) -> Array:
    """The scales as the file has them; 0 is left to the caller: a channel of a weight may be pruned away."""
    scales = importer.constant(node, 1, "scale").real.astype(np.float64)
    if not scales.size or not np.all(np.isfinite(scales)) or np.any(scales < 0):
        raise OnnxImportError("its scale is not a positive number", node=label(node))
    if attribute(node, "block_size", 0):
        raise OnnxImportError("scales of blocks are not supported: quantize per channel", node=label(node))
    return scales


def _along(node: onnx.NodeProto, values: Array, shape: tuple[int, ...]) -> Array:
    """Scales or zero points, of the rank of a constant: one for all, or one along the node's axis."""
    if values.size == 1:
        return values.reshape([1] * len(shape))
    axis = attribute(node, "axis", 1)
    axis += len(shape) if axis < 0 else 0
    if values.ndim != 1 or not 0 <= axis < len(shape) or shape[axis] != values.size:
        raise OnnxImportError(f"{values.size} scales do not fit a constant of shape {shape}", node=label(node))
    return values.reshape([-1 if index == axis else 1 for index in range(len(shape))])


def _dequantized(importer: Importing, node: onnx.NodeProto, found: Constant) -> Constant:
    shape = found.real.shape
    scale = _along(node, scales_of(importer, node), shape)
    zeros = _zero_points(importer, node).astype(np.int64)
    if found.real.dtype.kind not in "iu":
        raise OnnxImportError("DequantizeLinear reads no integers", node=label(node))
    integers = found.real.astype(np.int64) - _along(node, zeros, shape)
    dtype = DType.S8
    if found.kind == TensorProto.INT32:
        dtype = DType.S32
    elif found.kind in (TensorProto.INT4, TensorProto.UINT4):
        dtype = DType.S4
    elif found.bounds is not None and np.all(zeros == zeros.reshape(-1)[0]):
        # Narrow weights are often held in eight bits, and a Clip says how narrow.
        low, high = (bound - int(zeros.reshape(-1)[0]) for bound in found.bounds)
        dtype = DType.S4 if DType.S4.minimum <= low and high <= DType.S4.maximum else dtype
    return Constant(integers * scale, int(TensorProto.FLOAT), integers, dtype, scale)


def _quantized(importer: Importing, node: onnx.NodeProto, found: Constant) -> Constant:
    kind = _kind(importer, node)
    if kind not in _RANGES:
        raise OnnxImportError("weights of this type are not supported: quantize to 4 or 8 bits", node=label(node))
    if found.real.dtype.kind != "f" or np.isnan(found.real).any():
        raise OnnxImportError("QuantizeLinear reads no real numbers", node=label(node))
    scale = _along(node, scales_of(importer, node), found.real.shape)
    zeros = _along(node, _zero_points(importer, node).astype(np.int64), found.real.shape)
    low, high = _RANGES[kind]
    with np.errstate(all="ignore"):
        # In float32, as runtimes divide: halves are then the same.
        steps = found.real.astype(np.float32) / np.where(scale > 0, scale, np.inf).astype(np.float32)
    stored = np.clip(np.rint(steps).astype(np.float64) + zeros, low, high).astype(np.int64)
    return Constant(stored, kind)
