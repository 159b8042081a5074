"""From the nodes of an ONNX file to a :class:`FloatNetwork`."""

from __future__ import annotations

import math
from dataclasses import fields

import torch

from nybble.quantize.errors import SourceError
from nybble.quantize.float_network import INPUT, FloatNetwork, Op
from nybble.quantize.onnx_source import layers, shapes  # noqa: F401 - they register their handlers
from nybble.quantize.onnx_source.handlers import HANDLERS, Unsupported, Value, remedy
from nybble.quantize.onnx_source.model import FOLDED, OnnxModel, OnnxNode, folded, reading
from nybble.quantize.translate import Translation

#: Of names at most, which become those of files.
_LONGEST = 120


def build(model: OnnxModel, size: tuple[int, int], channels: int | None = None) -> FloatNetwork:
    """The network for images of so many rows and columns.

    Raises
    ------
    SourceError
        Naming the node that is not supported or does not fit, or if the file takes images of another size.
    """
    channels = model.channels if channels is None else channels
    if channels != model.channels or (model.image_size or size) != size:
        rows, columns = model.image_size or ("any", "any")
        raise SourceError(
            f"{model.path}: takes images of {model.channels} channels, {rows} rows and {columns} columns, not "
            f"{channels}, {size[0]} and {size[1]}"
        )
    with reading(model.path):
        network = _Builder(model, (channels, *size)).network()
        _check(model, network)
    return network


class _Builder:
    def __init__(self, model: OnnxModel, input_shape: tuple[int, int, int]) -> None:
        self._model = model
        self._network = FloatNetwork(input_shape)
        self._held: dict[str, Value] = {**model.constants, model.entry: Translation(INPUT, input_shape)}
        self._keys = {INPUT}

    def network(self) -> FloatNetwork:
        model = self._model
        for node in _needed(model):
            self._visit(node)
        result = self._held.get(model.output)
        if not isinstance(result, Translation) or not self._network.ops:
            raise SourceError(f"{model.path}: its output does not depend on its input")
        if math.prod(result.shape[1:]) != 1:
            shape = ", ".join(map(str, result.shape))
            raise SourceError(f"{model.path}: its output is (N, {shape}); it must be logits (N, classes)")
        return self._network

    def _visit(self, node: OnnxNode) -> None:
        inputs = [self._read(node, name) if name else None for name in node.inputs]
        if not any(isinstance(value, Translation) for value in inputs):
            if node.op not in FOLDED:
                raise self._unsupported(node, "it reads constants alone; let onnxsim compute what depends on no image")
            self._held.update(folded(node, self._held, self._model.opset))  # type: ignore[arg-type]
            return
        handler = HANDLERS.get(node.op)
        if handler is None:
            raise self._unsupported(node, remedy(node.op))
        try:
            result = handler(node, *inputs)
        except Unsupported as error:
            raise self._unsupported(node, str(error)) from None
        except TypeError:
            raise self._unsupported(node, "its inputs are not those of the operator") from None
        if isinstance(result, tuple) and not isinstance(result, Translation):
            op, shape = result
            result = Translation(self._add(node, op), shape)
        elif isinstance(result, Op):
            result = Translation(self._add(node, result), result.shape)
        if node.op in ("Softmax", "LogSoftmax") and node.outputs[0] != self._model.output:
            raise self._unsupported(node, "it can be left out as the last node only")
        self._held[node.outputs[0]] = result

    def _read(self, node: OnnxNode, name: str) -> Value:
        if name not in self._held:
            raise SourceError(f"{self._model.path}: node {node.label}: reads {name[:80]!r}, which nothing makes")
        return self._held[name]

    def _add(self, node: OnnxNode, op: Op) -> str:
        op.name = self._free(node)
        op.place = f"{self._model.path}: node {node.label}"
        self._network.ops.append(op)
        return op.name

    def _free(self, node: OnnxNode) -> str:
        """The name of the module whose weights a node reads, or that called it, as PyTorch's exporter writes them."""
        weight = node.inputs[1] if node.op in ("Conv", "Gemm", "MatMul") and len(node.inputs) > 1 else ""
        name = weight.removesuffix(".weight") if weight.endswith(".weight") else _module(node)
        count, candidate = 1, name
        # As in capture: what differs in a dot only must not meet in the names of files.
        while candidate.replace(".", "_") in self._keys:
            count += 1
            candidate = f"{name}_{count}"
        self._keys.add(candidate.replace(".", "_"))
        return candidate

    def _unsupported(self, node: OnnxNode, why: str) -> SourceError:
        return SourceError(f"{self._model.path}: node {node.label}: cannot be quantized: {why}")


def _module(node: OnnxNode) -> str:
    """``layer1.0.conv1`` of ``/layer1/layer1.0/conv1/Conv``, else what the node, or its result, is called."""
    parts = [part for part in (node.name or node.outputs[0])[:_LONGEST].split("/") if part]
    if len(parts) > 1 and parts[-1].split("_")[0] == node.op:
        parts.pop()
    path = ""
    for part in parts:
        path = part if not path or part.startswith(f"{path}.") else f"{path}.{part}"
    return path.strip(".") or node.op


def _needed(model: OnnxModel) -> list[OnnxNode]:
    """The nodes that the output depends on, in order."""
    wanted = {model.output}
    found = []
    for node in reversed(model.nodes):
        if wanted.intersection(node.outputs):
            wanted.update(node.inputs)
            found.append(node)
    return found[::-1]


@torch.no_grad()
def _check(model: OnnxModel, network: FloatNetwork) -> None:
    """Run it once: weights that do not fit show here, with their node, and not in training."""
    values = {INPUT: torch.zeros(1, *network.input_shape)}
    for op in network:
        for entry in fields(op):
            value = getattr(op, entry.name)
            if isinstance(value, torch.Tensor) and not bool(torch.isfinite(value).all()):
                raise SourceError(f"{op.place}: its {entry.name} holds NaN or infinity")
        try:
            values[op.name] = op(*(values[name] for name in op.inputs))
        except RuntimeError as error:
            raise SourceError(f"{op.place}: does not fit: {str(error).splitlines()[0][:160]}") from error
        if values[op.name].numel() != math.prod(op.shape):
            found = tuple(values[op.name].shape[1:])
            raise SourceError(f"{op.place}: gives {found} where {op.shape} was expected")
