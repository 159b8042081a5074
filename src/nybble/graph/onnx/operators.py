"""What each ONNX operator does to a value of an imported graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import onnx

from nybble.graph.nodes import Add, Concat
from nybble.graph.onnx import affine, shapes
from nybble.graph.onnx.clamping import TYPES
from nybble.graph.onnx.clipping import clip, maximum, minimum, relu
from nybble.graph.onnx.errors import OnnxImportError
from nybble.graph.onnx.halves import simple_ratio
from nybble.graph.onnx.load import attribute, label
from nybble.graph.onnx.pooling import average_pool, global_average_pool, global_max_pool, max_pool, moves_halves_alone
from nybble.graph.onnx.quantization import dequantize_linear, quantize_linear
from nybble.graph.onnx.values import Constant, Real, Stored, Value, channel_axis
from nybble.graph.onnx.weighted import conv, gemm, matmul
from nybble.graph.types import Array, DType

if TYPE_CHECKING:
    from nybble.graph.onnx.importer import Importer

#: How much finer than its inputs a sum of two activations is: the rounding of each is then small against a step.
ADDED_UNITS = 64


def _add(importer: Importer, node: onnx.NodeProto) -> Value:
    for index in (0, 1):
        constant, other = importer.value(node, index), importer.value(node, 1 - index)
        if isinstance(constant, Constant):
            if isinstance(other, Real) and moves_halves_alone(importer.build, other, constant):
                return other
            return affine.add_constant(importer, node)
    return _sum(importer, node, importer.real(node, 0), importer.real(node, 1))


def _subtract(importer: Importer, node: onnx.NodeProto) -> Value:
    if any(isinstance(importer.value(node, index), Constant) for index in (0, 1)):
        return affine.subtract_constant(importer, node)
    right = importer.real(node, 1)
    return _sum(importer, node, importer.real(node, 0), affine.scaled(importer, node, right, -np.ones_like(right.unit)))


def _sums(importer: Importer, node: onnx.NodeProto) -> Value:
    """Sum of any number of values."""
    made = importer.real(node, 0)
    for index in range(1, len(node.input)):
        made = _sum(importer, node, made, importer.real(node, index))
    return made


def _sum(importer: Importer, node: onnx.NodeProto, first: Real, second: Real) -> Real:
    build, name = importer.build, label(node)
    left, right = (build.settle(real, name) for real in (first, second))
    if build.types[left.value].shape != build.types[right.value].shape:
        shapes_of = " and ".join(str(("N", *build.types[real.value].shape)) for real in (left, right))
        raise OnnxImportError(
            f"adds values of the shapes {shapes_of}; only values of one shape can be added", node=name
        )
    if (left.flat, left.layout) != (right.flat, right.layout):
        raise OnnxImportError("adds values whose dimensions are in another order", node=name)
    sums = [real for real in (left, right) if real.is_sum]
    # A shortcut's Quantize makes a sum in the unit of the other; in files of somebody else the finer unit is kept.
    sums.sort(key=lambda real: real.through is not None if build.is_ours else float(np.median(real.unit)))
    unit = sums[0].unit if sums else _common(build.is_ours, left.unit, right.unit)
    sides = []
    for real, side in ((left, "left"), (right, "right")):
        # Both sides need names of their own where both are requantized.
        named = real if sums else replace(real, through=real.through or f"{name}_{side}")
        sides.append(build.to_sum(named, unit, name))
    made = build.add(Add(name=build.free(name), inputs=(sides[0], sides[1])))
    return Real(made, unit, True, flat=left.flat, layout=left.layout)


def _common(is_ours: bool, left: Array, right: Array) -> Array:
    """A unit for the sum of two activations: one that both are multiples of, else a fine one."""
    ratio = None if is_ours else simple_ratio(left, right)
    if ratio is not None and ratio.numerator <= ADDED_UNITS:
        return right / ratio.denominator
    return np.full(left.shape, max(left.max(), right.max()) / ADDED_UNITS)


def _concat(importer: Importer, node: onnx.NodeProto) -> Value:
    """Channels one after the other, in the type and the scale of the QuantizeLinear behind, else of the first."""
    build, name = importer.build, label(node)
    if all(isinstance(importer.value(node, index), Stored) for index in range(len(node.input))):
        return _concat_stored(importer, node)
    quantizers, others = importer.behind(node)
    behind = quantizers[0] if len(quantizers) == 1 and not others else None
    read = importer.activation if behind is None else importer.real
    parts = [read(node, index) for index in range(len(node.input))]
    _check_axis(importer, node, parts)
    if len(parts) == 1:
        return parts[0]
    counts = [len(part.unit) for part in parts]
    scale = None if behind is None else behind.scale(replace(parts[0], unit=np.ones(sum(counts))))
    if scale is None or behind is None:
        dtype = parts_type({build.types[part.value].dtype for part in parts})
        scale = np.full(sum(counts), max(float(part.unit.max()) for part in parts))
    elif all(part.is_stored for part in parts):
        dtype = parts_type({build.types[part.value].dtype for part in parts})
    else:
        # Quantizing commutes with putting channels side by side.
        dtype = behind.dtype
    pieces = np.split(scale, np.cumsum(counts)[:-1])
    values = [
        build.quantize(part, piece, dtype, f"{name}_{index}")
        for index, (part, piece) in enumerate(zip(parts, pieces, strict=True))
    ]
    values = [build.retyped(value, dtype, f"{name}_{index}") for index, value in enumerate(values)]
    made = Concat(name=build.free(name), inputs=tuple(values), input_type=dtype)
    if parts[0].is_stored:
        return replace(parts[0], value=build.add(made), unit=scale, through=None)
    return Real(build.add(made), scale, False, flat=parts[0].flat, layout=parts[0].layout)


def _concat_stored(importer: Importer, node: onnx.NodeProto) -> Value:
    """Integers side by side: what a step is must be the same, which DequantizeLinear says behind."""
    build = importer.build
    parts = [found for index in range(len(node.input)) if isinstance(found := importer.value(node, index), Stored)]
    _check_axis(importer, node, parts)
    if len({part.zero for part in parts}) != 1 or any(part.padding is not None for part in parts):
        raise OnnxImportError("concatenates integers with several zero points", node=label(node))
    dtype = parts_type({build.types[part.value].dtype for part in parts})
    values = [build.retyped(part.value, dtype, f"{label(node)}_{index}") for index, part in enumerate(parts)]
    made = Concat(name=build.free(label(node)), inputs=tuple(values), input_type=dtype)
    return replace(parts[0], value=build.add(made))


def _check_axis(importer: Importer, node: onnx.NodeProto, parts: Sequence[Real | Stored]) -> None:
    shapes_of = [importer.build.types[part.value].shape for part in parts]
    axis = attribute(node, "axis", 1)
    axis += (2 if parts[0].flat or len(shapes_of[0]) == 1 else 4) if axis < 0 else 0
    channels = {channel_axis(part, shape) for part, shape in zip(parts, shapes_of, strict=True)}
    if channels != {axis} or len({(part.flat, part.layout) for part in parts}) != 1:
        raise OnnxImportError("only channels can be concatenated (axis=1)", node=label(node))


def parts_type(dtypes: set[DType]) -> DType:
    """The narrowest type that holds all values of some types."""
    low, high = min(dtype.minimum for dtype in dtypes), max(dtype.maximum for dtype in dtypes)
    for dtype in TYPES:
        if dtype.minimum <= low and high <= dtype.maximum:
            return dtype
    return DType.S8


def _round(importer: Importer, node: onnx.NodeProto) -> Value:
    real = importer.real(node, 0)
    quantizers, others = importer.behind(node)
    if quantizers and not others and all(np.all(entry.scales == 1) and not entry.added for entry in quantizers):
        # QuantizeLinear rounds whole numbers to themselves.
        return real
    return importer.build.rounded_sum(real, label(node))


#: What may be between a Softmax that is left out and the output.
_ENDINGS = ("Cast", "DequantizeLinear", "Flatten", "Identity", "QuantizeLinear", "Reshape", "Squeeze")


def _softmax(importer: Importer, node: onnx.NodeProto) -> Value:
    """Left out at the end, with what quantizes the probabilities: the order of the logits is the same."""
    tail, names = set(), [node.output[0]]
    while names:
        name = names.pop()
        for reader in importer.readers.get(name, []):
            if reader.op_type not in _ENDINGS or reader.input[0] != name or not reader.output:
                raise OnnxImportError(f"{node.op_type} inside the network is not supported", node=label(node))
            tail.add(reader.output[0])
            names.append(reader.output[0])
    importer.tail |= tail
    importer.notes.append(f"{label(node)}: the {node.op_type} at the end was left out; outputs are logits")
    return importer.value(node, 0)


#: What may read an activation with padding around it.
PADDED = ("Conv", "MaxPool", "QuantizeLinear")

OPERATORS: dict[str, Callable[[Importer, onnx.NodeProto], Value]] = {
    "Add": _add,
    "AveragePool": average_pool,
    "BatchNormalization": affine.batch_normalization,
    "Cast": shapes.cast,
    "Clip": clip,
    "Concat": _concat,
    "Conv": conv,
    "DequantizeLinear": dequantize_linear,
    "Div": affine.divide,
    "Dropout": shapes.pass_through,
    "Flatten": shapes.flatten,
    "Gemm": gemm,
    "GlobalAveragePool": global_average_pool,
    "GlobalMaxPool": global_max_pool,
    "Identity": shapes.identity,
    "LogSoftmax": _softmax,
    "MatMul": matmul,
    "Max": maximum,
    "MaxPool": max_pool,
    "Min": minimum,
    "Mul": affine.multiply,
    "Neg": affine.negate,
    "Pad": shapes.pad,
    "QuantizeLinear": quantize_linear,
    "ReduceMax": global_max_pool,
    "ReduceMean": global_average_pool,
    "Relu": relu,
    "Reshape": shapes.reshape,
    "Round": _round,
    "Shape": shapes.shape,
    "Softmax": _softmax,
    "Squeeze": shapes.squeeze,
    "Sub": _subtract,
    "Sum": _sums,
    "Transpose": shapes.transpose,
    "Unsqueeze": shapes.unsqueeze,
}

#: What to do about some operators that are not supported.
_QDQ = "quantize with quant_format=QuantFormat.QDQ"
_ONLY_RELU = "of activation functions the engine has ReLU, with a maximum or without; replace it and train again"
REMEDIES = {
    **dict.fromkeys(("QLinearConv", "QLinearMatMul", "QLinearAdd", "QGemm", "ConvInteger", "MatMulInteger"), _QDQ),
    **dict.fromkeys(("HardSwish", "Gelu", "Elu", "PRelu", "LeakyRelu", "Tanh"), _ONLY_RELU),
    **dict.fromkeys(("Sigmoid", "HardSigmoid"), f"{_ONLY_RELU}; cut one at the end off with onnx.utils.extract_model"),
    **dict.fromkeys(("ArgMax", "TopK"), "cut the file behind the logits with onnx.utils.extract_model"),
    "DynamicQuantizeLinear": "quantize statically (onnxruntime.quantization.quantize_static)",
}
