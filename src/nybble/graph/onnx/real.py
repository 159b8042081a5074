"""What the forms with real-valued arithmetic share: a graph's values as float32, each in its unit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np
import onnx
from onnx import TensorProto

from nybble.graph.graph import Graph
from nybble.graph.nodes import Add, AvgPool2d, Concat, Conv2d, Linear, MaxPool2d, Node, Padding, Quantize, ReLU, Scale
from nybble.graph.onnx.errors import OnnxExportError
from nybble.graph.onnx.pools import max_pool
from nybble.graph.onnx.writer import Writer, value_info
from nybble.graph.types import Array

#: Units that differ by less than this part count as equal: what float32 weights can tell apart, with room.
UNIT_TOLERANCE = 2.0**-20


class RealForm(ABC):
    """Writes a graph node by node; what stays open is how weights and requantizations look."""

    opset: int
    ir_version: int

    def __init__(self, graph: Graph, units: Mapping[str, Array]) -> None:
        self.graph = graph
        #: The real value of one integer step of every value, (channels).
        self.units = units
        self.writer = Writer()
        self._renamed: dict[str, str] = {}
        self._converted: set[str] = set()

    def model(self, metadata: Mapping[str, str] | None = None) -> onnx.ModelProto:
        """The finished model; its inputs and outputs are float32 and have the graph's names."""
        for entry in self.graph.inputs:
            self._enter(entry.name)
        for node in self.graph:
            self._emit(node)
        outputs = []
        taken = {entry.name for entry in self.graph.inputs}
        for name in self.graph.outputs:
            # ONNX has no output that is an input.
            label = f"{name}/output" if name in taken else name
            if self._source(name) != label:
                self.writer.node("Identity", [self._source(name)], label)
            outputs.append(value_info(label, TensorProto.FLOAT, self.graph.values[name].shape))
        inputs = [value_info(entry.name, TensorProto.FLOAT, entry.shape) for entry in self.graph.inputs]
        return self.writer.model(inputs, outputs, opset=self.opset, ir_version=self.ir_version, metadata=metadata)

    # What a form decides

    @abstractmethod
    def _enter(self, name: str) -> None:
        """Whatever an input needs before it is read."""

    @abstractmethod
    def _weights(self, node: Conv2d | Linear, transpose: bool) -> list[str]:
        """The values that carry weight and bias."""

    @abstractmethod
    def _quantize(self, node: Quantize) -> None:
        """A requantization, to an activation or into a sum."""

    @abstractmethod
    def _store(self, name: str, pooled: str) -> None:
        """What a pool or Concat gives becomes the activation of that name."""

    @abstractmethod
    def _relu(self, node: ReLU) -> None:
        """A ReLU and its maximum."""

    @abstractmethod
    def _logits(self, node: Scale) -> None:
        """The division by ``out_scale``."""

    #: Part of 1 by which a multiplication may differ from none and still be written.
    def _is_negligible(self, ratio: Array) -> bool:
        return bool(np.all(np.abs(ratio - 1) <= UNIT_TOLERANCE))

    # Nodes

    def _emit(self, node: Node) -> None:
        match node:
            case Conv2d():
                self._convolution(node)
            case Linear():
                self._linear(node)
            case Add():
                self._add(node)
            case ReLU():
                self._relu(node)
            case Quantize():
                self._quantize(node)
            case MaxPool2d():
                source = self._source(node.inputs[0])
                self._store(node.name, max_pool(self.writer, node, source, self.graph.values, self._pooled(node)))
            case AvgPool2d():
                self._store(node.name, self._average_pool(node))
            case Concat():
                self._store(node.name, self._concat(node))
            case Scale():
                self._logits(node)
            case _:
                raise OnnxExportError(f"no ONNX form is defined for {node.op}", node=node.name)

    def _convolution(self, node: Conv2d) -> None:
        self.writer.node(
            "Conv",
            [self._source(node.inputs[0]), *self._weights(node, False)],
            node.name,
            kernel_shape=list(node.kernel_size),
            strides=list(node.stride),
            pads=list(node.padding),
            dilations=list(node.dilation),
            group=node.groups,
        )

    #: Whether a Gemm's weight is written (in, out), as quantizers of float models expect it, or (out, in).
    transposed = False

    def _linear(self, node: Linear) -> None:
        source = self._source(node.inputs[0])
        if len(self.graph.values[node.inputs[0]].shape) > 1:
            source = self.writer.node("Flatten", [source], f"{node.name}/flat", axis=1)
        weights = self._weights(node, self.transposed)
        self.writer.node("Gemm", [source, *weights], node.name, transB=int(not self.transposed))

    def _add(self, node: Add) -> None:
        unit = self.units[node.name]
        self.writer.node("Add", [self._in_units(name, unit, node.name) for name in node.inputs], node.name)

    def _concat(self, node: Concat) -> str:
        sources = [self._source(name) for name in node.inputs]
        return self.writer.node("Concat", sources, self._pooled(node), name=node.name, axis=1)

    def _average_pool(self, node: AvgPool2d) -> str:
        source = self._source(node.inputs[0])
        name = self._pooled(node)
        shape = self.graph.values[node.inputs[0]].shape
        if shape[1:] == tuple(node.kernel_size) and node.padding == Padding():
            return self.writer.node("GlobalAveragePool", [source], name, name=node.name)
        padding, counted = _average_padding(node, shape, self.graph.values[node.name].shape)
        return self.writer.node(
            "AveragePool",
            [source],
            name,
            name=node.name,
            kernel_shape=list(node.kernel_size),
            strides=list(node.stride),
            pads=list(padding),
            count_include_pad=int(counted),
        )

    # Parts

    def _pooled(self, node: MaxPool2d | AvgPool2d | Concat) -> str:
        """What the output of a pool or Concat itself is called, before :meth:`_store`."""
        return node.name

    def _source(self, name: str) -> str:
        """The ONNX value that carries a graph value."""
        return self._renamed.get(name, name)

    def _in_units(self, name: str, unit: Array, reader: str) -> str:
        """A value converted to ``unit``, if it is not in it already."""
        ratio = unit / self.units[name]
        if self._is_negligible(ratio):
            return self._source(name)
        label = f"{reader}/from/{name}"
        if label in self._converted:
            return label
        self._converted.add(label)
        return self.writer.node("Mul", [self._source(name), self._channels(f"{label}/ratio", ratio, name)], label)

    def _clip(self, source: str, name: str, low: Array, high: Array) -> str:
        """Clip between two bounds a channel: one ``Clip`` where all channels agree."""
        if np.all(low == low[0]) and np.all(high == high[0]):
            bounds = [self.writer.constant(f"{name}/low", low[0]), self.writer.constant(f"{name}/high", high[0])]
            return self.writer.node("Clip", [source, *bounds], name)
        label = f"{name}/raised"
        if np.any(low):
            raised = self.writer.node("Max", [source, self._channels(f"{name}/low", low, name)], label)
        else:
            raised = self.writer.node("Relu", [source], label)
        return self.writer.node("Min", [raised, self._channels(f"{name}/high", high, name)], name)

    def _channels(self, label: str, values: Array, like: str, dtype: type = np.float32) -> str:
        spatial = len(self.graph.values[like].shape) - 1
        return self.writer.constant(label, values.reshape(-1, *([1] * spatial)), dtype)


def _average_padding(node: AvgPool2d, shape: tuple[int, ...], made: tuple[int, ...]) -> tuple[Padding, bool]:
    """Explicit padding, and whether it counts: runtimes disagree about average pools in ceil mode."""
    past = [
        (extent - 1) * stride + kernel - before - size
        for extent, stride, kernel, before, size in zip(
            made[1:], node.stride, node.kernel_size, node.padding[:2], shape[1:], strict=True
        )
    ]
    bottom, right = max(node.padding.bottom, past[0]), max(node.padding.right, past[1])
    if (bottom, right) == node.padding[2:]:
        return node.padding, node.count_include_pad
    # What lies past the padding never counts.
    if node.count_include_pad and any(node.padding):
        raise OnnxExportError(
            "ONNX has no average pool in ceil mode that counts its padding; set ceil_mode=False or "
            "count_include_pad=False, or export --exact",
            node=node.name,
        )
    return Padding(node.padding.top, node.padding.left, bottom, right), False
