"""Concat: joins channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx

from nybble.graph.onnx.clamping import TYPES
from nybble.graph.onnx.errors import OnnxImportError
from nybble.graph.onnx.load import attribute, label
from nybble.graph.onnx.operators.importing import Importing
from nybble.graph.onnx.operators.registry import reads
from nybble.graph.onnx.values import Real, Stored, Value, channel_axis
from nybble.graph.ops import Concat
from nybble.graph.types import DType


@reads("Concat", commutes=True)
def concat(importer: Importing, node: onnx.NodeProto) -> Value:
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
        # Quantizing commutes with joining channels.
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


def _concat_stored(importer: Importing, node: onnx.NodeProto) -> Value:
    """Joined integers: all must have the same step, which the DequantizeLinear behind gives."""
    build = importer.build
    parts = [found for index in range(len(node.input)) if isinstance(found := importer.value(node, index), Stored)]
    _check_axis(importer, node, parts)
    if len({part.zero for part in parts}) != 1 or any(part.padding is not None for part in parts):
        raise OnnxImportError("concatenates integers with several zero points", node=label(node))
    dtype = parts_type({build.types[part.value].dtype for part in parts})
    values = [build.retyped(part.value, dtype, f"{label(node)}_{index}") for index, part in enumerate(parts)]
    made = Concat(name=build.free(label(node)), inputs=tuple(values), input_type=dtype)
    return replace(parts[0], value=build.add(made))


def _check_axis(importer: Importing, node: onnx.NodeProto, parts: Sequence[Real | Stored]) -> None:
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
