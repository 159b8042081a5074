"""Writes a network as a LiteRT file in INT8: signed codes, weights by channel, activations by tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from .layers import Layer, Network, readers, symmetric

Array = NDArray[Any]
_OPS = schema.BuiltinOperator
_TYPES = schema.TensorType
#: Versions of the operators in which they take signed eight bits.
_VERSIONS = {
    _OPS.ADD: 2,
    _OPS.CONCATENATION: 2,
    _OPS.CONV_2D: 3,
    _OPS.DEPTHWISE_CONV_2D: 3,
    _OPS.DEQUANTIZE: 2,
    _OPS.FULLY_CONNECTED: 12,
    _OPS.HARD_SWISH: 1,
    _OPS.LEAKY_RELU: 2,
    _OPS.LOGISTIC: 2,
    _OPS.MAX_POOL_2D: 2,
    _OPS.MEAN: 2,
    _OPS.MUL: 2,
    _OPS.PAD: 2,
    # From codes to codes.
    _OPS.QUANTIZE: 2,
}
#: The scale and zero that LOGISTIC gives.
_SIGMOID = (1 / 256, -128)
#: Extents of an image without its batch; the place of channels with it.
_IMAGE = 3
_NUMPY = {_TYPES.INT8: np.int8, _TYPES.INT32: np.int32}


def litert_file(network: Network) -> bytes:
    """The content of the file. Raises :class:`ValueError` for a layer that LiteRT cannot express."""
    return _Writer(network).content()


class _Writer:
    def __init__(self, network: Network) -> None:
        self._network = network
        self._buffers = [schema.BufferT()]
        self._tensors: list[Any] = []
        self._codes: list[Any] = []
        self._operators: list[Any] = []
        # The tensor of each value; of a layer that keeps its input's codes, their scale and zero.
        self._values: dict[str, int] = {}
        self._scales: dict[str, tuple[float, int]] = {}

    def content(self) -> bytes:
        """The bytes of the file."""
        network = self._network
        shape = _nhwc(network.shapes[network.input])
        entry = self._tensor("photos", shape, _TYPES.FLOAT32)
        self._value(network.input)
        self._operator(_OPS.QUANTIZE, [entry], self._values[network.input], "QuantizeOptions")
        for layer in network.layers:
            _WRITE[layer.op](self, layer)
        logits = self._tensor("logits", _nhwc(network.shapes[network.output]), _TYPES.FLOAT32)
        self._operator(_OPS.DEQUANTIZE, [self._values[network.output]], logits, "DequantizeOptions")
        graph = schema.SubGraphT()
        graph.tensors, graph.operators = self._tensors, self._operators
        graph.inputs, graph.outputs = [entry], [logits]
        model = schema.ModelT()
        model.version, model.description = 3, "nybble bench"
        model.operatorCodes, model.subgraphs, model.buffers = self._codes, [graph], self._buffers
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def conv(self, layer: Layer) -> None:
        """A convolution, dense or in groups; where it is depthwise, an output channel has a layer of its own."""
        assert layer.weights is not None  # noqa: S101 - a Conv has weights
        (value,) = layer.inputs
        groups, channels = layer.arguments["group"], self._network.shapes[value][0]
        depthwise = groups == channels and groups > 1
        codes, scales = symmetric(layer.weights)
        axes, axis = ((1, 2, 3, 0), 3) if depthwise else ((0, 2, 3, 1), 0)
        weights = self._constant(f"{layer.output}/weights", codes.transpose(axes), scales, axis)
        name = "DepthwiseConv2DOptions" if depthwise else "Conv2DOptions"
        source, options = self._windowed(layer, name, layer.weights.shape[2:])
        options.dilationHFactor, options.dilationWFactor = layer.arguments.get("dilations", (1, 1))
        if depthwise:
            options.depthMultiplier = len(codes) // channels
        inputs = [source, weights, self._bias(layer, scales)]
        code = _OPS.DEPTHWISE_CONV_2D if depthwise else _OPS.CONV_2D
        self._operator(code, inputs, self._value(layer.output), name, options)

    def gemm(self, layer: Layer) -> None:
        """A fully connected layer; of an image that is flattened, the weights are in LiteRT's order."""
        assert layer.weights is not None  # noqa: S101 - a Gemm has weights
        codes, scales = symmetric(layer.weights)
        shape = self._network.shapes[layer.inputs[0]]
        if len(shape) == _IMAGE:
            codes = codes.reshape(-1, *shape).transpose(0, 2, 3, 1).reshape(codes.shape)
        weights = self._constant(f"{layer.output}/weights", codes, scales, 0)
        inputs = [self._values[layer.inputs[0]], weights, self._bias(layer, scales)]
        options = schema.FullyConnectedOptionsT()
        self._operator(_OPS.FULLY_CONNECTED, inputs, self._value(layer.output), "FullyConnectedOptions", options)

    def add(self, layer: Layer) -> None:
        """A sum of two values."""
        inputs = [self._values[name] for name in layer.inputs]
        self._operator(_OPS.ADD, inputs, self._value(layer.output), "AddOptions")

    def mul(self, layer: Layer) -> None:
        """A product of two values, of which one may be a gate."""
        inputs = [self._values[name] for name in layer.inputs]
        self._operator(_OPS.MUL, inputs, self._value(layer.output), "MulOptions")

    def sigmoid(self, layer: Layer) -> None:
        """Sigmoid, whose codes LiteRT prescribes."""
        output = self._value(layer.output, _SIGMOID)
        self._operator(_OPS.LOGISTIC, [self._values[layer.inputs[0]]], output, None)

    def hard_swish(self, layer: Layer) -> None:
        """Hard swish."""
        inputs = [self._values[layer.inputs[0]]]
        self._operator(_OPS.HARD_SWISH, inputs, self._value(layer.output), "HardSwishOptions")

    def leaky_relu(self, layer: Layer) -> None:
        """Leaky ReLU."""
        options = schema.LeakyReluOptionsT()
        options.alpha = layer.arguments.get("alpha", 0.01)
        inputs = [self._values[layer.inputs[0]]]
        self._operator(_OPS.LEAKY_RELU, inputs, self._value(layer.output), "LeakyReluOptions", options)

    def concat(self, layer: Layer) -> None:
        """Channels of several values behind each other, which takes codes of one scale: others are stored anew."""
        if layer.arguments["axis"] not in (1, -_IMAGE) or len(self._network.shapes[layer.output]) != _IMAGE:
            raise ValueError(f"no layer for a concatenation that is not of channels ({layer.output})")
        low = min(self._network.ranges[name][0] for name in layer.inputs)
        high = max(self._network.ranges[name][1] for name in layer.inputs)
        scale = _scale(low, high)
        inputs = []
        for name in layer.inputs:
            tensor = self._values[name]
            if self._scales[name] != scale:
                tensor = self._tensor(f"{layer.output}/{name}", _nhwc(self._network.shapes[name]), _TYPES.INT8)
                self._set_scale(tensor, [scale[0]], [scale[1]])
                self._operator(_OPS.QUANTIZE, [self._values[name]], tensor, "QuantizeOptions")
            inputs.append(tensor)
        options = schema.ConcatenationOptionsT()
        options.axis = _IMAGE
        output = self._value(layer.output, scale)
        self._operator(_OPS.CONCATENATION, inputs, output, "ConcatenationOptions", options)

    def max_pool(self, layer: Layer) -> None:
        """A max pool keeps the codes of its input; padding is zero, so there may be nothing below it."""
        (value,) = layer.inputs
        if any(layer.arguments["pads"]) and self._network.ranges[value][0] < 0:
            raise ValueError(f"no layer for a padded max pool of negative values ({layer.output})")
        source, options = self._windowed(layer, "Pool2DOptions", layer.arguments["kernel_shape"])
        options.filterHeight, options.filterWidth = layer.arguments["kernel_shape"]
        self._operator(
            _OPS.MAX_POOL_2D, [source], self._value(layer.output, self._scales[value]), "Pool2DOptions", options
        )

    def mean(self, layer: Layer) -> None:
        """A global average pool; for fully connected layers its result has no rows and columns, as they require."""
        options = schema.ReducerOptionsT()
        axes = self._constant(f"{layer.output}/axes", np.array([1, 2], dtype=np.int32))
        following = readers(self._network, layer.output)
        options.keepDims = any(reader.op != "Gemm" for reader in following)
        if not options.keepDims:
            self._network.shapes[layer.output] = self._network.shapes[layer.output][:1]
        inputs = [self._values[layer.inputs[0]], axes]
        self._operator(_OPS.MEAN, inputs, self._value(layer.output), "ReducerOptions", options)

    def _windowed(self, layer: Layer, name: str, kernel: Sequence[int]) -> tuple[int, Any]:
        """The tensor to read, padded where LiteRT's two ways of padding are others, and options with the stride."""
        (value,) = layer.inputs
        strides, pads = layer.arguments["strides"], layer.arguments["pads"]
        dilations = layer.arguments.get("dilations", (1, 1))
        size = self._network.shapes[value][1:]
        options = getattr(schema, f"{name}T")()
        options.strideH, options.strideW = strides
        source = self._values[value]
        options.padding = schema.Padding.VALID
        if any(pads):
            same = [_same(*each) for each in zip(size, kernel, strides, dilations, strict=True)]
            if list(pads) == [same[0][0], same[1][0], same[0][1], same[1][1]]:
                options.padding = schema.Padding.SAME
            else:
                source = self._padded(layer, pads)
        return source, options

    def _padded(self, layer: Layer, pads: Sequence[int]) -> int:
        (value,) = layer.inputs
        top, left, bottom, right = pads
        channels, rows, columns = self._network.shapes[value]
        amounts = np.array([[0, 0], [top, bottom], [left, right], [0, 0]], dtype=np.int32)
        shape = (1, rows + top + bottom, columns + left + right, channels)
        padded = self._tensor(f"{layer.output}/padded", shape, _TYPES.INT8)
        self._set_scale(padded, [self._scales[value][0]], [self._scales[value][1]])
        inputs = [self._values[value], self._constant(f"{layer.output}/pads", amounts)]
        self._operator(_OPS.PAD, inputs, padded, "PadOptions")
        return padded

    def _bias(self, layer: Layer, scales: Array) -> int:
        assert layer.bias is not None  # noqa: S101 - given with the weights
        steps = np.float32(self._scales[layer.inputs[0]][0]) * scales
        limits = np.iinfo(np.int32)
        codes = np.clip(np.rint(layer.bias / steps.astype(np.float64)), limits.min, limits.max).astype(np.int32)
        return self._constant(f"{layer.output}/bias", codes, steps, 0)

    def _value(self, name: str, scale: tuple[float, int] | None = None) -> int:
        """The tensor of a value in signed codes."""
        if scale is None:
            scale = _scale(*self._network.ranges[name])
        self._scales[name] = scale
        self._values[name] = self._tensor(name, _nhwc(self._network.shapes[name]), _TYPES.INT8)
        self._set_scale(self._values[name], [scale[0]], [scale[1]])
        return self._values[name]

    def _constant(self, name: str, content: Array, scales: Array | None = None, axis: int = 0) -> int:
        kind = next(key for key, value in _NUMPY.items() if value == content.dtype)
        tensor = self._tensor(name, content.shape, kind)
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(content).tobytes(), dtype=np.uint8)
        self._buffers.append(buffer)
        self._tensors[tensor].buffer = len(self._buffers) - 1
        if scales is not None:
            self._set_scale(tensor, scales.tolist(), [0] * len(scales), axis)
        return tensor

    def _tensor(self, name: str, shape: Sequence[int], kind: int) -> int:
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.buffer = name, list(shape), kind, 0
        self._tensors.append(tensor)
        return len(self._tensors) - 1

    def _set_scale(self, tensor: int, scales: Sequence[float], zeros: Sequence[int], axis: int = 0) -> None:
        about = schema.QuantizationParametersT()
        about.scale, about.zeroPoint, about.quantizedDimension = list(scales), list(zeros), axis
        self._tensors[tensor].quantization = about

    def _operator(self, code: int, inputs: list[int], output: int, name: str | None, options: Any = None) -> None:
        """Add an operator with options, by default those named; some have none."""
        known = [entry.builtinCode for entry in self._codes]
        if code not in known:
            entry = schema.OperatorCodeT()
            entry.builtinCode, entry.deprecatedBuiltinCode = code, min(code, 127)
            entry.version = _VERSIONS[code]
            self._codes.append(entry)
            known.append(code)
        operator = schema.OperatorT()
        operator.opcodeIndex, operator.inputs, operator.outputs = known.index(code), inputs, [output]
        if name is not None:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, name)
            operator.builtinOptions = getattr(schema, f"{name}T")() if options is None else options
        self._operators.append(operator)


_WRITE = {
    "Add": _Writer.add,
    "Concat": _Writer.concat,
    "Conv": _Writer.conv,
    "Gemm": _Writer.gemm,
    "GlobalAveragePool": _Writer.mean,
    "HardSwish": _Writer.hard_swish,
    "LeakyRelu": _Writer.leaky_relu,
    "MaxPool": _Writer.max_pool,
    "Mul": _Writer.mul,
    "Sigmoid": _Writer.sigmoid,
}


def _scale(low: float, high: float) -> tuple[float, int]:
    """Step and zero of signed codes for a range."""
    step = (high - low) / 255
    return step, int(np.clip(round(-128 - low / step), -128, 127))


def _nhwc(shape: Sequence[int]) -> tuple[int, ...]:
    """One photo's shape in LiteRT's order."""
    return (1, *shape[1:], shape[0])


def _same(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """What LiteRT's padding ``SAME`` adds before and after."""
    total = max((-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2
