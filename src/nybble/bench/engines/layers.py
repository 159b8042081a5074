"""The float ONNX model as fused layers with calibrated ranges, for engines whose INT8 files are written here.

A clip that follows a layer becomes part of it: what is stored in eight bits saturates where the clip does. So does a
``HardSigmoid``, which is a factor, a summand and a clip. Runs where ONNX and ONNX Runtime are installed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import numpy_helper

Array = NDArray[Any]
#: Photos that run at a time while ranges are collected.
_BATCH = 10
#: What a writer may know. A clip stands behind one of the first four.
_CLIPPED = ("Conv", "Add", "Gemm", "Mul")
_KNOWN = (*_CLIPPED, "MaxPool", "GlobalAveragePool", "Concat", "Sigmoid", "HardSwish", "LeakyRelu")
_RENAMES = ("Identity", "Flatten")


@dataclass(frozen=True)
class Layer:
    """One layer.

    Attributes
    ----------
    op : str
        The ONNX operator.
    inputs : tuple of str
        Activations, without weights and bias.
    output : str
        The value behind the clip, where there is one.
    weights, bias : array or None
        Of ``Conv`` (out, in, height, width) and ``Gemm`` (out, in).
    arguments : dict
        The operator's attributes.
    clip : tuple of float or None
    """

    op: str
    inputs: tuple[str, ...]
    output: str
    weights: Array | None = None
    bias: Array | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    clip: tuple[float, float] | None = None


@dataclass(frozen=True)
class Network:
    """Layers in order; shape without batch and calibrated range of each value; the names of input and output."""

    layers: list[Layer]
    shapes: dict[str, tuple[int, ...]]
    ranges: dict[str, tuple[float, float]]
    input: str
    output: str


def read_network(path: Path, photos: Array) -> Network:
    """Read a float model and see what its values are on photos.

    Parameters
    ----------
    path : Path
        As :func:`nybble.graph.onnx.write_float_model` writes it.
    photos : array
        float32 (N, C, H, W), normalised.

    Raises
    ------
    ValueError
        For an operator that is not known here, or a clip that stands alone.
    """
    model = onnx.load(str(path))
    graph = model.graph
    constants = {entry.name: numpy_helper.to_array(entry) for entry in graph.initializer}
    layers: list[Layer] = []
    renamed: dict[str, str] = {}
    inferred = _inferred(model)
    for node in graph.node:
        inputs = tuple(renamed.get(name, name) for name in node.input if name not in constants)
        output = node.output[0]
        if node.op_type == "Constant":
            constants[output] = numpy_helper.to_array(node.attribute[0].t)
        elif node.op_type == "Identity" and node.input[0] in constants:
            # Exporters write a constant that several layers share once.
            constants[output] = constants[node.input[0]]
        elif node.op_type in _RENAMES or _keeps_all(node, inferred):
            renamed[output] = inputs[0]
        elif node.op_type in ("Clip", "Relu"):
            if not layers or layers[-1].output != inputs[0] or _readers(graph, node.input[0]) != 1:
                raise ValueError(_alone(node))
            layers[-1] = _clipped(layers[-1], node, constants)
        elif node.op_type == "HardSigmoid":
            if not layers or layers[-1].output != inputs[0] or _readers(graph, node.input[0]) != 1:
                raise ValueError(_alone(node))
            layers[-1] = _hard_sigmoid(layers[-1], node)
        elif _is_mean(node):
            layers.append(Layer("GlobalAveragePool", inputs, output))
        elif node.op_type in _KNOWN:
            layers.append(_layer(node, inputs, constants))
        else:
            raise ValueError(f"no layer for {node.op_type} ({node.name or output})")
    entry = graph.input[0].name
    last = graph.output[0].name
    names = [entry, *(layer.output for layer in layers)]
    shapes, ranges = _observe(model, names[1:], photos)
    shapes[entry] = photos.shape[1:]
    ranges[entry] = _with_zero(float(photos.min()), float(photos.max()))
    return Network(layers, shapes, ranges, entry, renamed.get(last, last))


def symmetric(weights: Array) -> tuple[Array, Array]:
    """Weights in -127 to 127, and the scale of each output channel."""
    flat = np.abs(weights.reshape(len(weights), -1)).max(axis=1)
    scales = np.where(flat > 0, flat, 1.0).astype(np.float32) / np.float32(127)
    codes = np.rint(weights / scales.reshape(-1, *[1] * (weights.ndim - 1)))
    return np.clip(codes, -127, 127).astype(np.int8), scales


def readers(network: Network, value: str) -> list[Layer]:
    """The layers that read a value."""
    return [layer for layer in network.layers if value in layer.inputs]


def _readers(graph: Any, value: str) -> int:
    return sum(list(node.input).count(value) for node in graph.node)


def _layer(node: Any, inputs: tuple[str, ...], constants: dict[str, Array]) -> Layer:
    arguments = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
    held = [constants[name] for name in node.input if name in constants]
    if node.op_type not in ("Conv", "Gemm"):
        if held:
            raise ValueError(f"no layer for {node.op_type} with a constant ({node.name or node.output[0]})")
        return Layer(node.op_type, inputs, node.output[0], arguments=arguments)
    if not held:
        raise ValueError(f"no layer for {node.op_type} without constant weights ({node.name or node.output[0]})")
    weights = held[0]
    if node.op_type == "Gemm" and not arguments.get("transB"):
        weights = weights.T
    bias = held[1].reshape(-1) if len(held) > 1 else np.zeros(len(weights))
    return Layer(node.op_type, inputs, node.output[0], weights, bias.astype(np.float32), arguments)


def _clipped(layer: Layer, node: Any, constants: dict[str, Array]) -> Layer:
    if layer.op not in _CLIPPED or layer.clip is not None:
        raise ValueError(_alone(node))
    low, high = (0.0, np.inf) if node.op_type == "Relu" else (float(constants[name]) for name in node.input[1:3])
    return replace(layer, output=node.output[0], clip=(low, high))


def _hard_sigmoid(layer: Layer, node: Any) -> Layer:
    """``max(0, min(1, alpha x + beta))``, the factor and the summand in the layer's weights."""
    given = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
    alpha, beta = np.float32(given.get("alpha", 0.2)), np.float32(given.get("beta", 0.5))
    if layer.weights is None or layer.bias is None or layer.clip is not None:
        raise ValueError(_alone(node))
    weights, bias = layer.weights * alpha, layer.bias * alpha + beta
    return replace(layer, output=node.output[0], weights=weights, bias=bias, clip=(0.0, 1.0))


def _is_mean(node: Any) -> bool:
    """Whether a node is a mean over rows and columns that keeps both."""
    given = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
    axes = sorted(given.get("axes", ()))
    return node.op_type == "ReduceMean" and axes in ([2, 3], [-2, -1]) and given.get("keepdims", 1) == 1


def _inferred(model: Any) -> dict[str, tuple[int, ...]]:
    """The extents behind the batch of each value, as far as ONNX infers them; 0 for those that it does not."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    return {
        entry.name: tuple(extent.dim_value for extent in entry.type.tensor_type.shape.dim)[1:]
        for entry in (*graph.input, *graph.value_info, *graph.output)
    }


def _keeps_all(node: Any, inferred: dict[str, tuple[int, ...]]) -> bool:
    """Whether a node is a slice of channels, rows and columns that takes all of them."""
    if node.op_type != "Slice":
        return False
    before, after = (inferred.get(name, ()) for name in (node.input[0], node.output[0]))
    return before == after and len(before) > 0 and all(before)


def _alone(node: Any) -> str:
    return f"no layer for a {node.op_type} that stands alone ({node.name or node.output[0]})"


def _observe(
    model: Any, names: Sequence[str], photos: Array
) -> tuple[dict[str, tuple[int, ...]], dict[str, tuple[float, float]]]:
    """Shape and extremes of each value."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    del watched.graph.output[:]
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(watched.SerializeToString(), options, providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0].name
    shapes: dict[str, tuple[int, ...]] = {}
    ranges = dict.fromkeys(names, (0.0, 0.0))
    for first in range(0, len(photos), _BATCH):
        found = session.run(None, {entry: photos[first : first + _BATCH]})
        for name, value in zip(names, found, strict=True):
            low, high = ranges[name]
            ranges[name] = min(low, float(value.min())), max(high, float(value.max()))
            shapes[name] = value.shape[1:]
    return shapes, {name: _with_zero(*extremes) for name, extremes in ranges.items()}


def _with_zero(low: float, high: float) -> tuple[float, float]:
    """A range that holds zero and is not empty."""
    low, high = min(low, 0.0), max(high, 0.0)
    return (low, high) if high > low else (0.0, 1.0)
