"""What each ONNX operator does to a value of an imported graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto

from nybble.graph.nodes import Add, Concat, Padding
from nybble.graph.onnx.builder import TYPES
from nybble.graph.onnx.errors import OnnxImportError
from nybble.graph.onnx.load import attribute, label, values_of
from nybble.graph.onnx.pooling import average_pool, global_average_pool, max_pool, moves_halves_alone
from nybble.graph.onnx.quantization import dequantize_linear, quantize_linear
from nybble.graph.onnx.values import Constant, Real, Stored, Value
from nybble.graph.onnx.weighted import add_bias, conv, gemm, matmul
from nybble.graph.types import Array, DType

if TYPE_CHECKING:
    from nybble.graph.onnx.importer import Importer

#: How much finer than its inputs a sum of two activations is: the rounding of each is then small against a step.
ADDED_UNITS = 64


def _relu(importer: Importer, node: onnx.NodeProto) -> Value:
    real = importer.real(node, 0)
    return real if real.relu is not None else replace(real, relu=label(node), low=None)


def _clip(importer: Importer, node: onnx.NodeProto) -> Value:
    bounds: list[Array | None] = [None, None]
    for index, name in ((0, "min"), (1, "max")):
        if importer.has(node, index + 1):
            bounds[index] = importer.constant(node, index + 1, name).real
        elif any(entry.name == name for entry in node.attribute):
            bounds[index] = np.asarray(attribute(node, name, 0.0))
    found = importer.value(node, 0)
    low, high = bounds
    if isinstance(found, Stored):
        held = importer.build.types[found.value].dtype
        value = importer.build.narrow(
            found.value,
            held.minimum if low is None else int(low) - found.zero,
            held.maximum if high is None else int(high) - found.zero,
            importer.reads_only(node.input[0], node),
            label(node),
        )
        return replace(found, value=value)
    real = importer.real(node, 0)
    if low is not None:
        real = _raised(importer, node, real, low)
    return real if high is None else _lowered(importer, node, real, high)


def _maximum(importer: Importer, node: onnx.NodeProto) -> Value:
    return _raised(importer, node, importer.real(node, 0), importer.constant(node, 1, "bound").real)


def _minimum(importer: Importer, node: onnx.NodeProto) -> Value:
    return _lowered(importer, node, importer.real(node, 0), importer.constant(node, 1, "bound").real)


def _raised(importer: Importer, node: onnx.NodeProto, real: Real, bound: Array) -> Real:
    low = _per_channel(importer, node, real, bound)
    if np.all(low == 0):
        return real if real.relu is not None else replace(real, relu=label(node), low=None)
    if np.any(low > 0) or real.relu is not None or real.high is not None:
        raise OnnxImportError("clips at a number above 0 or several times, which is not supported", node=label(node))
    return replace(real, low=low if real.low is None else np.maximum(low, real.low), clip=label(node))


def _lowered(importer: Importer, node: onnx.NodeProto, real: Real, bound: Array) -> Real:
    high = _per_channel(importer, node, real, bound)
    if np.any(high < 0) or not np.all(np.isfinite(high)):
        raise OnnxImportError("clips to a number below 0, which is not supported", node=label(node))
    return replace(real, high=high if real.high is None else np.minimum(high, real.high), clip=label(node))


def _add(importer: Importer, node: onnx.NodeProto) -> Value:
    for index in (0, 1):
        constant = importer.value(node, index)
        if isinstance(constant, Constant):
            averaged = importer.value(node, 1 - index)
            if isinstance(averaged, Real) and moves_halves_alone(importer.build, averaged, constant):
                return averaged
            return add_bias(importer, node)
    build, name = importer.build, label(node)
    left, right = (build.settle(importer.real(node, index), name) for index in (0, 1))
    for real in (left, right):
        build.check_positive(real, name)
    sums = sorted((real for real in (left, right) if real.is_sum), key=lambda real: real.through is not None)
    if sums:
        unit = sums[0].unit
    else:
        unit = np.full(build.types[left.value].shape[0], max(left.unit.max(), right.unit.max()) / ADDED_UNITS)
    sides = []
    for real, side in ((left, "left"), (right, "right")):
        # Both sides need names of their own where both are requantized.
        named = real if sums else replace(real, through=real.through or f"{name}_{side}")
        sides.append(build.to_sum(named, unit, name))
    return Real(build.add(Add(name=build.free(name), inputs=(sides[0], sides[1]))), unit, True, flat=left.flat)


def _concat(importer: Importer, node: onnx.NodeProto) -> Value:
    """Channels one after the other, in the type and the scale of the QuantizeLinear behind, else of the first."""
    build, name = importer.build, label(node)
    parts = [importer.activation(node, index) for index in range(len(node.input))]
    if attribute(node, "axis", 1) != 1 or len({part.flat for part in parts}) != 1:
        raise OnnxImportError("only channels can be concatenated (axis=1)", node=name)
    if len(parts) == 1:
        return parts[0]
    dtypes = {build.types[part.value].dtype for part in parts}
    dtype = parts_type(dtypes)
    scale = importer.scale_behind(node)
    if scale is None:
        scale = max(float(part.unit[0]) for part in parts)
    values = [build.quantize(part, scale, dtype, f"{name}_{index}") for index, part in enumerate(parts)]
    values = [build.retyped(value, dtype, f"{name}_{index}") for index, value in enumerate(values)]
    made = Concat(name=build.free(name), inputs=tuple(values), input_type=dtype)
    return replace(
        parts[0], value=build.add(made), unit=np.full(sum(len(part.unit) for part in parts), scale), through=None
    )


def parts_type(dtypes: set[DType]) -> DType:
    """The narrowest type that holds all values of some types."""
    low, high = min(dtype.minimum for dtype in dtypes), max(dtype.maximum for dtype in dtypes)
    for dtype in TYPES:
        if dtype.minimum <= low and high <= dtype.maximum:
            return dtype
    return DType.S8


def _multiply(importer: Importer, node: onnx.NodeProto) -> Value:
    constant = 0 if isinstance(importer.value(node, 0), Constant) else 1
    factor = importer.constant(node, constant, "second factor").real
    return _scaled(importer, node, importer.real(node, 1 - constant), factor)


def _divide(importer: Importer, node: onnx.NodeProto) -> Value:
    divisor = importer.constant(node, 1, "divisor").real.astype(np.float64)
    if np.any(divisor == 0):
        raise OnnxImportError("divides by 0", node=label(node))
    return _scaled(importer, node, importer.real(node, 0), 1.0 / divisor)


def _scaled(importer: Importer, node: onnx.NodeProto, real: Real, factor: Array) -> Real:
    settled = importer.build.settle(real, label(node))
    unit = settled.unit * _per_channel(importer, node, settled, factor)
    return importer.build.through(replace(settled, unit=unit, through=label(node)))


def _per_channel(importer: Importer, node: onnx.NodeProto, real: Real, constant: Array) -> Array:
    """A constant operand as (channels)."""
    shape = importer.build.types[real.value].shape
    values = constant.astype(np.float64)
    if not np.all(np.isfinite(values)):
        raise OnnxImportError("its constant holds NaN or infinity", node=label(node))
    if values.size == 1:
        return np.full(shape[0], float(values.reshape(-1)[0]))
    rank = 2 if real.flat else len(shape) + 1
    aligned = (1,) * (rank - values.ndim) + values.shape
    is_channels = aligned[1:2] == (shape[0],) and values.size == shape[0] and len(aligned) == rank
    if not is_channels or (real.flat and len(shape) > 1 and shape[1:] != (1, 1)):
        raise OnnxImportError(
            f"its constant of shape {constant.shape} is neither one number nor one a channel", node=label(node)
        )
    return values.reshape(-1)


def _round(importer: Importer, node: onnx.NodeProto) -> Value:
    real = importer.real(node, 0)
    if importer.scale_behind(node) == 1:
        # QuantizeLinear rounds whole numbers to themselves.
        return real
    return importer.build.rounded_sum(real, label(node))


def _cast(importer: Importer, node: onnx.NodeProto) -> Value:
    if attribute(node, "to", 0) not in _FLOATS or not isinstance(importer.value(node, 0), Real):
        raise OnnxImportError(
            "only numbers of the network can be cast, and only to float32 or float64", node=label(node)
        )
    return importer.value(node, 0)


def _pass(importer: Importer, node: onnx.NodeProto) -> Value:
    return importer.value(node, 0)


def _identity(importer: Importer, node: onnx.NodeProto) -> Value:
    found = importer.value(node, 0)
    if not isinstance(found, Real):
        return found
    return importer.build.through(replace(found, through=label(node)))


def _pad(importer: Importer, node: onnx.NodeProto) -> Value:
    found = importer.value(node, 0)
    if (
        not isinstance(found, Real | Stored)
        or found.padding is not None
        or attribute(node, "mode", b"constant") != b"constant"
    ):
        raise OnnxImportError("only a constant Pad of an activation is supported", node=label(node))
    filling = 0.0
    if importer.has(node, 2):
        filling = float(importer.constant(node, 2, "filling").real.reshape(-1)[0])
    pads = attribute(node, "pads", [0][:0])
    if importer.has(node, 1):
        pads = [int(value) for value in importer.constant(node, 1, "pads").real.reshape(-1)]
    if len(pads) != 8 or any(pads[:2]) or any(pads[4:6]) or importer.has(node, 3):
        raise OnnxImportError(f"pads {pads[:8]}: only rows and columns of images can be padded", node=label(node))
    around = Padding(pads[2], pads[3], pads[6], pads[7])
    if isinstance(found, Stored):
        filling -= found.zero
    return replace(found, padding=around, filling=filling)


def _constant(importer: Importer, node: onnx.NodeProto) -> Value:
    for entry in node.attribute:
        if entry.name == "value":
            importer.kinds[node.output[0]] = entry.t.data_type
            return Constant(values_of(entry.t, label(node)))
        if entry.name in ("value_float", "value_int", "value_floats", "value_ints"):
            return Constant(np.asarray(onnx.helper.get_attribute_value(entry)))
    raise OnnxImportError("a Constant without a numeric value", node=label(node))


def _flatten(importer: Importer, node: onnx.NodeProto) -> Value:
    found = importer.value(node, 0)
    if not isinstance(found, Real | Stored):
        return importer.real(node, 0)
    if node.op_type == "Flatten" and attribute(node, "axis", 1) != 1:
        raise OnnxImportError("flattens the batch as well; only axis=1 is supported", node=label(node))
    if node.op_type == "Reshape":
        size = int(np.prod(importer.build.types[found.value].shape))
        target = [int(value) for value in importer.constant(node, 1, "shape").real.reshape(-1)]
        if len(target) != 2 or target[1] not in (-1, size):
            raise OnnxImportError(f"reshapes to {target[:6]}; only (N, all) is supported", node=label(node))
    if node.op_type == "Squeeze" and importer.build.types[found.value].shape[1:] != (1, 1):
        raise OnnxImportError("squeezes something else than 1x1 images", node=label(node))
    return replace(found, flat=True)


def _softmax(importer: Importer, node: onnx.NodeProto) -> Value:
    if node.output[0] not in importer.outputs:
        raise OnnxImportError("Softmax inside the network is not supported", node=label(node))
    importer.notes.append(f"{label(node)}: the Softmax at the end was left out; outputs are logits")
    return importer.value(node, 0)


_FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE)
#: What may read an activation with padding around it.
PADDED = ("Conv", "MaxPool", "QuantizeLinear")

OPERATORS: dict[str, Callable[[Importer, onnx.NodeProto], Value]] = {
    "Add": _add,
    "AveragePool": average_pool,
    "Cast": _cast,
    "Clip": _clip,
    "Concat": _concat,
    "Constant": _constant,
    "Conv": conv,
    "DequantizeLinear": dequantize_linear,
    "Div": _divide,
    "Dropout": _pass,
    "Flatten": _flatten,
    "Gemm": gemm,
    "GlobalAveragePool": global_average_pool,
    "Identity": _identity,
    "MatMul": matmul,
    "Max": _maximum,
    "MaxPool": max_pool,
    "Min": _minimum,
    "Mul": _multiply,
    "Pad": _pad,
    "QuantizeLinear": quantize_linear,
    "ReduceMean": global_average_pool,
    "Relu": _relu,
    "Reshape": _flatten,
    "Round": _round,
    "Softmax": _softmax,
    "Squeeze": _flatten,
}

#: What to do about some operators that are not supported.
_QDQ = "quantize with quant_format=QuantFormat.QDQ"
_ONLY_RELU = "of activation functions the engine has ReLU, with a maximum or without; replace it and train again"
REMEDIES = {
    "BatchNormalization": "fold it into the convolution before quantizing (onnxruntime's quant_pre_process does)",
    **dict.fromkeys(("QLinearConv", "QLinearMatMul", "QLinearAdd", "QGemm", "ConvInteger", "MatMulInteger"), _QDQ),
    **dict.fromkeys(("HardSwish", "HardSigmoid", "Sigmoid", "Gelu", "Elu", "PRelu", "LeakyRelu", "Tanh"), _ONLY_RELU),
    "DynamicQuantizeLinear": "quantize statically (onnxruntime.quantization.quantize_static)",
}
