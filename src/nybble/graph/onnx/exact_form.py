"""A graph as ONNX whose results are the reference's, bit for bit, on any runtime with IEEE 754 arithmetic.

Integers are carried as float32 wherever no partial sum can pass 2**24, up to which float32 holds every integer: then
products and sums are exact in any order. Requantization is ``Mul``, ``Add``, ``Floor`` and ``Clip`` in float32 where
``output_bits + shift <= 24`` (docs/format.md says why that is exact), signed results by way of ``Abs`` and ``Sign``.
What is larger is carried as int32, and multiplied and shifted in int64.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto

from nybble.graph.graph import Graph
from nybble.graph.nodes import Add, AvgPool2d, Concat, Conv2d, Linear, MaxPool2d, Node, Padding, Quantize, ReLU, Scale
from nybble.graph.onnx.errors import OnnxExportError
from nybble.graph.onnx.pools import max_pool
from nybble.graph.onnx.writer import Writer, value_info
from nybble.graph.types import ACTIVATIONS, Array, DType

#: Integers up to here are exact in float32.
EXACT = 1 << 24
OPSET = 21
IR_VERSION = 10

#: Element types of inputs and outputs: what holds the graph's types, four-bit ones in a byte.
INTERFACE = {
    DType.U4: TensorProto.UINT8,
    DType.U7: TensorProto.UINT8,
    DType.U8: TensorProto.UINT8,
    DType.S4: TensorProto.INT8,
    DType.S8: TensorProto.INT8,
    DType.U31: TensorProto.INT32,
    DType.S32: TensorProto.INT32,
    DType.F32: TensorProto.FLOAT,
}


@dataclass(frozen=True)
class ExactModel:
    """An exact model, and the nodes that took a wider way than float32, with the reason."""

    model: onnx.ModelProto
    wide: Mapping[str, str]


def exact_model(graph: Graph, metadata: Mapping[str, str] | None = None) -> ExactModel:
    """Make the exact model of a graph.

    Parameters
    ----------
    graph : Graph
    metadata : mapping of str to str, optional

    Returns
    -------
    ExactModel
        Inputs are the graph's integers, int8 or uint8, as :meth:`nybble.graph.Preprocessing.quantize` makes them.
        Outputs have the graph's names; logits are float32, sums int32, activations int8 or uint8.

    Raises
    ------
    OnnxExportError
        Naming a node that cannot be exact.
    """
    form = _ExactForm(graph)
    return ExactModel(form.model(metadata), form.wide)


class _ExactForm:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.values = graph.values
        self.writer = Writer()
        #: Whether a value is carried as float32.
        self.is_float: dict[str, bool] = {}
        self.wide: dict[str, str] = {}
        self._converted: set[str] = set()

    def model(self, metadata: Mapping[str, str] | None) -> onnx.ModelProto:
        inputs, outputs = [], []
        for entry in self.graph.inputs:
            inputs.append(value_info(entry.name, INTERFACE[entry.dtype], entry.shape))
            self._cast(entry.name, TensorProto.FLOAT, self._carried(entry.name))
            self.is_float[entry.name] = True
        for node in self.graph:
            self._emit(node)
        taken = {entry.name for entry in self.graph.inputs}
        for name in self.graph.outputs:
            kind = INTERFACE[self.values[name].dtype]
            # ONNX has no output that is an input.
            label = f"{name}/output" if name in taken else name
            self._cast(self._carried(name), kind, label)
            outputs.append(value_info(label, kind, self.values[name].shape))
        return self.writer.model(inputs, outputs, opset=OPSET, ir_version=IR_VERSION, metadata=metadata)

    def _emit(self, node: Node) -> None:
        result = self._carried(node.name)
        self.is_float[node.name] = self.values[node.name].magnitude <= EXACT
        match node:
            case Conv2d():
                self._weighted(node, self._carried(node.inputs[0]))
            case Linear():
                source = self._carried(node.inputs[0])
                if len(self.values[node.inputs[0]].shape) > 1:
                    source = self.writer.node("Flatten", [source], f"{node.name}/flat", axis=1)
                self._weighted(node, source)
            case Add():
                kind = TensorProto.FLOAT if self.is_float[node.name] else TensorProto.INT32
                self.writer.node("Add", [self._as(name, kind, node.name) for name in node.inputs], result)
            case ReLU():
                self._relu(node)
            case Quantize():
                self._quantize(node)
            case MaxPool2d():
                max_pool(self.writer, node, self._carried(node.inputs[0]), self.values, result)
            case Concat():
                self.writer.node("Concat", [self._carried(name) for name in node.inputs], result, axis=1)
            case AvgPool2d():
                self._average_pool(node)
            case Scale():
                self.is_float[node.name] = True
                scale = self._channels(f"{node.name}/scale", node.out_scale.numpy(), np.float32, node.name)
                self.writer.node("Div", [self._as(node.inputs[0], TensorProto.FLOAT, node.name), scale], result)
            case _:
                raise OnnxExportError(f"no exact ONNX form is defined for {node.op}", node=node.name)

    # Sums of products

    def _weighted(self, node: Conv2d | Linear, source: str) -> None:
        """In one piece where float32 holds all sums, else in pieces that it does, added up as int32."""
        result = self._carried(node.name)
        bias = node.bias.numpy() if node.bias is not None else None
        weight = node.weight.numpy()
        if self.is_float[node.name]:
            self._piece(node, source, weight, bias, result)
            return
        pieces = self._pieces(weight, self.values[node.inputs[0]].magnitude)
        self.wide[node.name] = f"sums reach {self.values[node.name].magnitude}: {len(pieces)} piece(s) added as int32"
        total = ""
        for index, piece in enumerate(pieces):
            label = f"{node.name}/piece{index}"
            part = self._cast(self._piece(node, source, piece, None, label), TensorProto.INT32, f"{label}/sums")
            total = self.writer.node("Add", [total, part], f"{label}/total") if total else part
        if bias is not None:
            constant = self._channels(f"{node.name}/bias", bias, np.int32, node.name)
            total = self.writer.node("Add", [total, constant], f"{node.name}/biased")
        self.writer.node("Identity", [total], result, name=node.name)

    def _piece(self, node: Conv2d | Linear, source: str, weight: Array, bias: Array | None, output: str) -> str:
        inputs = [source, self.writer.constant(f"{output}/weight", weight)]
        if bias is not None:
            inputs.append(self.writer.constant(f"{output}/bias", bias))
        if isinstance(node, Linear):
            return self.writer.node("Gemm", inputs, output, transB=1)
        return self.writer.node(
            "Conv",
            inputs,
            output,
            kernel_shape=list(node.kernel_size),
            strides=list(node.stride),
            pads=list(node.padding),
            dilations=list(node.dilation),
            group=node.groups,
        )

    @staticmethod
    def _pieces(weight: Array, magnitude: int) -> list[Array]:
        """The weight in summands, zero but for a run of its taps, whose sums all stay below the limit."""
        flat = np.abs(weight.reshape(len(weight), -1).astype(np.int64)) * magnitude
        pieces = []
        begin, total = 0, np.zeros(len(flat), np.int64)
        for end in range(flat.shape[1] + 1):
            if end == flat.shape[1] or np.any(total + flat[:, end] > EXACT):
                piece = np.zeros_like(weight.reshape(len(weight), -1))
                piece[:, begin:end] = weight.reshape(len(weight), -1)[:, begin:end]
                pieces.append(piece.reshape(weight.shape))
                begin, total = end, np.zeros(len(flat), np.int64)
            if end < flat.shape[1]:
                total = total + flat[:, end]
        return pieces

    # Element by element

    def _relu(self, node: ReLU) -> None:
        result = self._carried(node.name)
        source = node.inputs[0]
        maximum = node.maximum if node.maximum is not None else DType.U31.maximum
        if self.is_float[source]:
            if node.maximum is None or maximum > EXACT:
                self.writer.node("Relu", [self._carried(source)], result)
            else:
                bounds = [
                    self.writer.constant(f"{node.name}/low", 0),
                    self.writer.constant(f"{node.name}/high", maximum),
                ]
                self.writer.node("Clip", [self._carried(source), *bounds], result)
            self.is_float[node.name] = True
            return
        label = f"{node.name}/clipped" if self.is_float[node.name] else result
        clipped = self._clip(self._carried(source), 0, maximum, np.int32, label)
        if self.is_float[node.name]:
            self._cast(clipped, TensorProto.FLOAT, result)

    def _quantize(self, node: Quantize) -> None:
        source, target = self.values[node.inputs[0]], node.output_type
        largest = int(node.factor.numpy().max())
        half = (1 << node.shift) >> 1
        if target in ACTIVATIONS:
            # Larger products are clipped, whatever float32 makes of them.
            is_exact = target.magnitude_bits + node.shift <= 24 and largest <= EXACT
            why = f"output_bits {target.magnitude_bits} + shift {node.shift} pass 24"
        else:
            is_exact = source.magnitude * largest + half <= EXACT
            why = f"products reach {source.magnitude * largest}"
        if largest > EXACT:
            why = f"factors reach {largest}"
        if not self.is_float[node.inputs[0]]:
            is_exact, why = False, f"it reads sums up to {source.magnitude}"
        if is_exact:
            self._requantize_float(node)
        else:
            self.wide[node.name] = f"{why}: int64"
            self._requantize_wide(node)

    def _requantize_float(self, node: Quantize) -> None:
        write = self.writer
        source, target = self._carried(node.inputs[0]), node.output_type
        if not target.is_signed and self.values[node.inputs[0]].dtype.is_signed:
            # All below 0 is clipped anyway; and a runtime may not merge the Mul with the convolution before it.
            source = write.node("Relu", [source], f"{node.name}/raised")
        signed = target.is_signed and self.values[node.inputs[0]].dtype.is_signed
        sign = write.node("Sign", [source], f"{node.name}/sign") if signed else ""
        size = write.node("Abs", [source], f"{node.name}/size") if signed else source
        factor = node.factor.numpy() / np.float64(1 << node.shift)
        factors = self._channels(f"{node.name}/factor", factor, np.float32, node.name)
        value = write.node("Mul", [size, factors], f"{node.name}/product")
        if node.shift:
            value = write.node("Add", [value, write.constant("half", 0.5)], f"{node.name}/half")
            value = write.node("Floor", [value], f"{node.name}/floor")
        if signed:
            value = write.node("Mul", [value, sign], f"{node.name}/rounded")
        result = self._carried(node.name)
        if target in ACTIVATIONS:
            self._clip(value, target.minimum, target.maximum, np.float32, result)
        else:
            write.node("Identity", [value], result)
        self.is_float[node.name] = True

    def _requantize_wide(self, node: Quantize) -> None:
        write, target = self.writer, node.output_type
        source = self._as(node.inputs[0], TensorProto.INT64, node.name)
        sign = write.node("Sign", [source], f"{node.name}/sign")
        size = write.node("Abs", [source], f"{node.name}/size")
        factors = self._channels(f"{node.name}/factor", node.factor.numpy(), np.int64, node.name)
        value = write.node("Mul", [size, factors], f"{node.name}/product")
        if node.shift:
            half = write.constant(f"{node.name}/half", 1 << (node.shift - 1), np.int64)
            value = write.node("Add", [value, half], f"{node.name}/above")
            divisor = write.constant(f"{node.name}/divisor", 1 << node.shift, np.int64)
            value = write.node("Div", [value, divisor], f"{node.name}/quotient")
        value = write.node("Mul", [value, sign], f"{node.name}/rounded")
        if target in ACTIVATIONS or target is DType.U31:
            value = self._clip(value, target.minimum, target.maximum, np.int64, f"{node.name}/clipped")
        kind = TensorProto.FLOAT if self.is_float[node.name] else TensorProto.INT32
        self._cast(value, kind, self._carried(node.name))

    def _average_pool(self, node: AvgPool2d) -> None:
        """Sums by a convolution of ones, divided in int64."""
        shape, made = self.values[node.inputs[0]], self.values[node.name].shape
        if shape.magnitude * node.kernel_size.rows * node.kernel_size.columns > EXACT:
            raise OnnxExportError("its window is too large for exact sums in float32", node=node.name)
        write, channels = self.writer, shape.shape[0]
        sides = (
            (node.padding.top, node.padding.bottom, shape.shape[1], node.kernel_size.rows, node.stride.rows, made[1]),
            (
                node.padding.left,
                node.padding.right,
                shape.shape[2],
                node.kernel_size.columns,
                node.stride.columns,
                made[2],
            ),
        )
        counts, ends = [], []
        for before, after, size, kernel, stride, extent in sides:
            first = np.arange(extent) * stride - before
            # In ceil mode the last window may pass the padding, which it then does not count.
            end = np.minimum(first + kernel, size + after)
            inside = np.minimum(end, size) - np.maximum(first, 0)
            counts.append(end - first if node.count_include_pad else inside)
            ends.append(max(0, int(first[-1]) + kernel - size))
        ones = write.constant(f"{node.name}/ones", np.ones((channels, 1, *node.kernel_size)))
        sums = write.node(
            "Conv",
            [self._carried(node.inputs[0]), ones],
            f"{node.name}/sums",
            name=node.name,
            kernel_shape=list(node.kernel_size),
            strides=list(node.stride),
            pads=list(Padding(node.padding.top, node.padding.left, *ends)),
            group=channels,
        )
        count = np.outer(*counts).astype(np.int64)
        # Division truncates: an offset keeps what it divides positive.
        offset = 1 << shape.dtype.bits
        value = self._cast(sums, TensorProto.INT64, f"{node.name}/integers")
        value = write.node("Mul", [value, write.constant(f"{node.name}/two", 2, np.int64)], f"{node.name}/twice")
        raised = write.constant(f"{node.name}/count", count * (1 + 2 * offset), np.int64)
        value = write.node("Add", [value, raised], f"{node.name}/raised")
        value = write.node(
            "Div", [value, write.constant(f"{node.name}/twocount", 2 * count, np.int64)], f"{node.name}/mean"
        )
        value = write.node(
            "Sub", [value, write.constant(f"{node.name}/offset", offset, np.int64)], f"{node.name}/lowered"
        )
        self._cast(value, TensorProto.FLOAT, self._carried(node.name))

    # Parts

    def _carried(self, name: str) -> str:
        """The ONNX value that carries a graph value, as float32 or int32."""
        return f"{name}/value"

    def _as(self, name: str, kind: int, reader: str) -> str:
        """A graph value as another element type, if it is not of that already."""
        held = TensorProto.FLOAT if self.is_float[name] else TensorProto.INT32
        source = self._carried(name)
        if held == kind:
            return source
        label = f"{reader}/from/{name}"
        if label not in self._converted:
            self._converted.add(label)
            self._cast(source, kind, label)
        return label

    def _cast(self, source: str, kind: int, label: str) -> str:
        return self.writer.node("Cast", [source], label, to=kind)

    def _clip(self, source: str, low: int, high: int, dtype: type, label: str) -> str:
        bounds = [self.writer.constant(f"{label}/low", low, dtype), self.writer.constant(f"{label}/high", high, dtype)]
        return self.writer.node("Clip", [source, *bounds], label)

    def _channels(self, label: str, values: Array, dtype: type, like: str) -> str:
        spatial = len(self.values[like].shape) - 1
        return self.writer.constant(label, values.reshape(-1, *([1] * spatial)), dtype)
