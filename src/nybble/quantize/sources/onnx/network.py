"""From the nodes of an ONNX file to a :class:`FloatNetwork`."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch

from nybble.graph import GraphError
from nybble.graph.value_type import MAX_ELEMENTS, MAX_EXTENT
from nybble.quantize.errors import CaptureError, SourceError
from nybble.quantize.ir.float_network import INPUT, FloatNetwork, Op, Result
from nybble.quantize.ir.fold import join_limits
from nybble.quantize.ir.vocabulary import MadeStack, Stack, Translation, Unsupported, settled
from nybble.quantize.ops import onnx_forms, rewrite
from nybble.quantize.ops.onnx_arguments import Value
from nybble.quantize.sources.moved import Moved, settled_images, stacked
from nybble.quantize.sources.onnx.folding import FOLDED, Folder
from nybble.quantize.sources.onnx.model import OnnxModel, OnnxNode
from nybble.quantize.sources.onnx.moves import follow
from nybble.quantize.sources.onnx.remedies import remedy
from nybble.quantize.sources.onnx.signature import check
from nybble.quantize.sources.onnx.tail import host_nodes, tail_of

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
    network = _Builder(model, (channels, *size)).network()
    _check(network)
    return network


class _Builder:
    def __init__(self, model: OnnxModel, input_shape: tuple[int, int, int]) -> None:
        self._model = model
        self._network = FloatNetwork(input_shape)
        self._held: dict[str, Value | Moved] = {**model.constants, model.entry: Translation(INPUT, input_shape)}
        #: Stacks of what they hold as elements that were moved.
        self._stacks: dict[str, Stack] = {}
        self._shapes: dict[str, tuple[int, ...]] = {INPUT: input_shape}
        self._keys = {INPUT}
        self._fold = Folder(model.constants, model.opset)

    def network(self) -> FloatNetwork:
        model = self._model
        if model.outputs:
            return self._tensors()
        self._visit_all(_needed(model, (model.output,)))
        result = self._held.get(model.output)
        if isinstance(result, Moved):
            raise self._unreadable(result)
        if not isinstance(result, Translation) or result.name == INPUT:
            raise SourceError(f"{model.path}: its output does not depend on its input")
        if math.prod(result.shape[1:]) != 1:
            shape = ", ".join(map(str, result.shape))
            raise SourceError(f"{model.path}: its output is (N, {shape}); it must be logits (N, classes)")
        if not result.is_natural:
            raise SourceError(f"{model.path}: its output is transposed; it must be logits (N, classes)")
        self._network.prune(result.name)
        self._network.ending = result.ending
        return self._rewritten()

    def _rewritten(self) -> FloatNetwork:
        try:
            rewrite(self._network)
            join_limits(self._network)
        except CaptureError as error:
            raise SourceError(str(error)) from None
        return self._network

    def _tensors(self) -> FloatNetwork:
        """A network that is not a classifier: its results, and what the host makes of them."""
        model, network = self._model, self._network
        tail = tail_of(model)
        self._visit_all(_needed(model, (*tail.cuts, *tail.constants)))
        constants = {name: held for name, held in self._held.items() if isinstance(held, np.ndarray)}
        shapes = {}
        for cut in tail.cuts:
            value = self._held.get(cut)
            if isinstance(value, Moved):
                raise self._unreadable(value)
            if not isinstance(value, Translation) or value.name == INPUT:
                raise SourceError(f"{model.path}: the output {cut[:80]!r} does not depend on the input")
            if value.shape != value.extents or not value.is_natural:
                raise SourceError(f"{model.path}: the output {cut[:80]!r} is a value in another shape or order")
            shapes[cut] = value.shape
            place = f"{model.path}: output {cut[:80]!r}"
            name = f"{cut}.result"
            network.ops.append(Result(name=name, inputs=(value.name,), shape=value.extents, place=place, label=cut))
        try:
            network.tail = tuple(host_nodes(tail, constants, shapes))
        except (ValueError, GraphError) as error:
            raise SourceError(f"{model.path}: {error}") from None
        made = {*tail.cuts, *(node.name for node in network.tail)}
        if fixed := [name for name in model.outputs if name not in made]:
            raise SourceError(f"{model.path}: the output {fixed[0][:80]!r} does not depend on the input")
        network.outputs = model.outputs
        network.prune(network.output)
        return self._rewritten()

    def _visit_all(self, nodes: Sequence[OnnxNode]) -> None:
        for node in nodes:
            try:
                self._visit(node)
            except Unsupported as error:
                raise SourceError(f"{self._model.path}: node {node.label}: cannot be quantized: {error}") from None

    def _visit(self, node: OnnxNode) -> None:
        if node.domain not in ("", "ai.onnx"):
            raise Unsupported(remedy(node.op, node.domain))
        inputs = [self._read(node, name) if name else None for name in node.inputs]
        if not any(isinstance(value, Translation | Stack | Moved) for value in inputs):
            if node.op not in FOLDED:
                raise Unsupported("it reads constants alone; let onnxsim compute what depends on no image")
            self._held.update(self._fold(node, self._held))  # type: ignore[arg-type]
            return
        if any(form.stacks for form in onnx_forms(node.op)):
            pairs = zip(node.inputs, inputs, strict=True)
            inputs = [self._stacked(node, name, value) if isinstance(value, Moved) else value for name, value in pairs]
        result = self._translated(node, inputs)
        if isinstance(result, MadeStack):
            self._held[node.outputs[0]] = result.settled(lambda part: settled(part, functools.partial(self._add, node)))
            return
        if isinstance(result, Moved):
            self._held[node.outputs[0]] = result
            return
        if isinstance(result, np.ndarray | Stack):
            self._held[node.outputs[0]] = result
            return
        if isinstance(result, torch.Tensor):
            raise AssertionError(f"{node.label}: a tensor was returned for a value that depends on the image")
        ended = any(isinstance(value, Translation) and value.ending for value in inputs)
        results = result if isinstance(result, tuple) else (result,)
        if ended and not all(isinstance(entry, Translation) for entry in results):
            raise Unsupported("nothing can be computed from a softmax; it can be left out as the last node only")
        for name, entry in zip(node.outputs, results, strict=False):
            self._held[name] = settled(entry, functools.partial(self._add, node))

    def _translated(self, node: OnnxNode, inputs: list[Any]) -> Any:
        """What the first operation makes of a node; else where its elements lie, if it moves them."""
        before = next((value for value in inputs if isinstance(value, Moved)), None)
        try:
            if before is not None:
                raise Unsupported(before.why)
            return _translated(node, inputs)
        except Unsupported as error:
            moved = follow(node, inputs, str(error))
            if moved is None and before is not None:
                raise self._unreadable(before) from None
            if moved is None:
                raise
            found = settled_images(moved, node.batch)
            return moved if found is None else found

    def _stacked(self, node: OnnxNode, name: str, value: Moved) -> Stack | Moved:
        """Images side by side as a stack, which is made once."""
        if name not in self._stacks:
            found = stacked(value, node.batch)
            if found is None:
                return value
            self._stacks[name] = found.settled(lambda part: settled(part, functools.partial(self._add, node)))
        return self._stacks[name]

    def _unreadable(self, moved: Moved) -> SourceError:
        return SourceError(f"{self._model.path}: node {moved.node}: cannot be quantized: {moved.why}")

    def _read(self, node: OnnxNode, name: str) -> Value | Moved:
        if name not in self._held:
            raise SourceError(f"{self._model.path}: node {node.label}: reads {name[:80]!r}, which nothing makes")
        return self._held[name]

    def _add(self, node: OnnxNode, op: Op) -> str:
        _check_size(op, self._shapes)
        op.name = self._free(node)
        self._shapes[op.name] = op.shape
        op.place = f"{self._model.path}: node {node.label}"
        self._network.ops.append(op)
        return op.name

    def _free(self, node: OnnxNode) -> str:
        """The name of the module whose weights a node reads, or that called it, as PyTorch's exporter writes them."""
        places = [form.weight for form in onnx_forms(node.op) if form.weight is not None]
        weight = node.inputs[places[0]] if places and places[0] < len(node.inputs) else ""
        name = weight.removesuffix(".weight") if weight.endswith(".weight") else _module(node)
        count, candidate = 1, name
        # As in capture: what differs in a dot only must not meet in the names of files.
        while candidate.replace(".", "_") in self._keys:
            count += 1
            candidate = f"{name}_{count}"
        self._keys.add(candidate.replace(".", "_"))
        return candidate


def _translated(node: OnnxNode, inputs: list[Value | None]) -> Any:
    """What the first operation makes of a node that has this form."""
    for form in onnx_forms(node.op):
        check(node, inputs, form)
        one, read = (node, inputs) if form.per_image is None else form.per_image(node, inputs)
        with np.errstate(all="ignore"):  # What is infinite then is found by its node below.
            result = form.handler(one, *read)
        if result is not None:
            return result
    raise Unsupported(remedy(node.op))


def _module(node: OnnxNode) -> str:
    """``layer1.0.conv1`` of ``/layer1/layer1.0/conv1/Conv``, else what the node, or its result, is called."""
    parts = [part for part in (node.name or node.outputs[0])[:_LONGEST].split("/") if part]
    if len(parts) > 1 and parts[-1].split("_")[0] == node.op:
        parts.pop()
    path = ""
    for part in parts:
        path = part if not path or part.startswith(f"{path}.") else f"{path}.{part}"
    return path.strip(".") or node.op


def _needed(model: OnnxModel, outputs: Sequence[str]) -> list[OnnxNode]:
    """The nodes that some values depend on, in order."""
    wanted = set(outputs)
    found = []
    for node in reversed(model.nodes):
        if wanted.intersection(node.outputs):
            wanted.update(node.inputs)
            found.append(node)
    return found[::-1]


def _check_size(op: Op, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Hold the values of an operation, padding included, against what an image network may have."""
    sizes = [op.shape, *(shapes[name] for name in op.inputs)]
    padding = getattr(op, "padding", None)
    if padding is not None and len(sizes[-1]) == 3:
        channels, rows, columns = sizes[-1]
        sizes.append((channels, rows + padding.top + padding.bottom, columns + padding.left + padding.right))
    for size in sizes:
        if min(size) < 1 or max(size) > MAX_EXTENT or math.prod(size) > MAX_ELEMENTS:
            raise Unsupported(f"a value of shape (N, {', '.join(map(str, size))}) is not one of an image network")


def _check(network: FloatNetwork) -> None:
    """Compute all shapes: weights that do not fit show here, with their node, and not in training.

    On the device ``meta``, which holds no values, so a file cannot ask for memory or time.
    """
    values = {INPUT: torch.zeros(1, *network.input_shape, device="meta")}
    for op in network:
        tensors = {
            entry.name: value for entry in fields(op) if isinstance(value := getattr(op, entry.name), torch.Tensor)
        }
        for name, value in tensors.items():
            if not bool(torch.isfinite(value).all()):
                raise SourceError(f"{op.place}: its {name} holds NaN or infinity")
        hollow = replace(op, **{name: value.to("meta") for name, value in tensors.items()})
        try:
            values[op.name] = hollow(*(values[name] for name in op.inputs))
        except RuntimeError as error:
            raise SourceError(f"{op.place}: does not fit: {str(error).splitlines()[0][:160]}") from error
        if values[op.name].numel() != math.prod(op.shape):
            found = tuple(values[op.name].shape[1:])
            raise SourceError(f"{op.place}: gives {found} where {op.shape} was expected")
