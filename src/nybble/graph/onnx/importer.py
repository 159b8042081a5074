"""From an ONNX QDQ model to a graph."""

from __future__ import annotations

import heapq
import os
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto

from nybble.graph.errors import GraphError
from nybble.graph.graph import Graph
from nybble.graph.nodes import Node
from nybble.graph.onnx.behind import quantizers
from nybble.graph.onnx.constants import FOLDED, fold, size_of
from nybble.graph.onnx.errors import OnnxImportError
from nybble.graph.onnx.imported import Import
from nybble.graph.onnx.load import label, load, values_of
from nybble.graph.onnx.metadata import Metadata, read_metadata
from nybble.graph.onnx.operators.importing import Importing
from nybble.graph.onnx.operators.registry import is_known, read, takes_padding
from nybble.graph.onnx.operators.remedies import unsupported
from nybble.graph.onnx.values import Computed, Constant, Outside, Quantizer, Real, Stored, Value
from nybble.graph.types import SUMS, DType

#: Element types an input may have.
_INTEGERS = {
    TensorProto.INT8: DType.S8,
    TensorProto.UINT8: DType.U8,
    TensorProto.INT4: DType.S4,
    TensorProto.UINT4: DType.U4,
}
#: Most elements that may be computed from constants: a number per byte of the file, plus a constant.
MOST_FOLDED = (8, 1 << 20)
#: Allowed real values of a step; beyond them factors and float32 lose their precision.
_UNITS = (1e-100, 1e100)


def import_onnx(
    path: str | os.PathLike[str], *, output: str | None = None, model: onnx.ModelProto | None = None
) -> Import:
    """Read a QDQ model from a file; see :func:`from_onnx`.

    ``model`` is the result of :func:`nybble.graph.onnx.load.load` for the file, if the caller has it already.
    """
    model = load(path) if model is None else model
    try:
        return from_onnx(model, output=output)
    except OnnxImportError as error:
        raise OnnxImportError(error.message, node=error.node, path=os.fspath(path)) from error


def from_onnx(model: onnx.ModelProto, *, output: str | None = None) -> Import:
    """Make a graph of a QDQ model with 4- or 8-bit weights and activations and zero points that nybble has.

    Weights, zero points and types are taken as they are; scales become factors and shifts, which is reported.

    Parameters
    ----------
    model : onnx.ModelProto
    output : str, optional
        The output to keep of a model with several; nodes that only others need are left out. Models that nybble has
        written may keep several.

    Returns
    -------
    Import

    Raises
    ------
    OnnxImportError
        Naming the node that cannot be expressed, and what to do about it.
    """
    try:
        metadata = read_metadata({entry.key: entry.value for entry in model.metadata_props})
        if metadata.form not in (None, "qdq"):
            raise OnnxImportError(
                f"was exported with --{metadata.form}, which holds no QuantizeLinear; export it without"
            )
        return Importer(model, metadata, output).run()
    except GraphError as error:
        raise OnnxImportError(error.message, node=error.node) from error


#: Operators whose readers take all outputs.
SEVERAL_OUTPUTS = ("Split",)


class Importer(Importing):
    """Reads the nodes in their order and records the meaning of each ONNX value."""

    def __init__(self, model: onnx.ModelProto, metadata: Metadata, output: str | None = None) -> None:
        self.model = model
        self.wanted = _outputs(model, output, metadata.form is not None)
        #: Models that nybble has written are imported as a whole.
        self.is_whole = metadata.form is not None and output is None
        self.nodes = list(model.graph.node) if self.is_whole else _needed(model, self.wanted)
        self.metadata = metadata
        super().__init__(self.nodes, self.wanted, metadata)
        #: Elements that may still be computed from constants.
        self._spare = MOST_FOLDED[0] * model.ByteSize() + MOST_FOLDED[1]

    def run(self) -> Import:
        """Read the nodes in their order, then the outputs."""
        graph = self.model.graph
        if graph.sparse_initializer:
            raise OnnxImportError("holds sparse constants, which are not supported")
        constants = {tensor.name for tensor in graph.initializer}
        for tensor in graph.initializer:
            if tensor.name in self.readers or tensor.name in self.outputs:
                self.values[tensor.name] = Constant(values_of(tensor), tensor.data_type)
        for entry in graph.input:
            if entry.name in constants:
                continue
            if self.is_whole or entry.name in self.readers:
                self._enter(entry)
            else:
                self.notes.append(f"the input {entry.name[:80]!r}, which nothing reads, was left out")
        for node in self.nodes:
            self._compute(node)
        for node in self.nodes:
            if node.output[0] not in self.values:
                self._take(node)
        return self._finished([self._leave(name) for name in self.wanted])

    def _compute(self, node: onnx.NodeProto) -> None:
        """Compute what depends only on constants, before the other nodes, whose readers are examined."""
        if not is_known(node.op_type) and node.op_type not in FOLDED:
            raise OnnxImportError(unsupported(node.op_type), node=label(node))
        several = node.op_type in SEVERAL_OUTPUTS
        if not node.output or (
            not several and any(name in self.readers or name in self.outputs for name in node.output[1:] if name)
        ):
            raise OnnxImportError(f"{node.op_type} with several outputs is not supported", node=label(node))
        inputs = [self.values.get(name) if name else None for name in node.input]
        if any(name and not isinstance(found, Constant) for name, found in zip(node.input, inputs, strict=True)):
            return
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            self._spend(node, inputs[:1])
            self.values[node.output[0]] = read(self, node)
            return
        made = self._folded(node, inputs)
        if made is not None:
            self.values[node.output[0]] = made

    def _folded(self, node: onnx.NodeProto, inputs: Sequence[Value | None]) -> Constant | None:
        """What a node makes of constants."""
        if node.op_type in FOLDED:
            self._spend(node, inputs)
        return fold(node, [found if isinstance(found, Constant) else None for found in inputs])

    def _spend(self, node: onnx.NodeProto, inputs: Sequence[Value | None]) -> None:
        """Refuse a file that computes many times more elements from its constants than it holds."""
        self._spare -= size_of(node, [found for found in inputs if isinstance(found, Constant)])
        if self._spare < 0:
            raise OnnxImportError("computes constants that are much larger than those it holds", node=label(node))

    def _take(self, node: onnx.NodeProto) -> None:
        inputs = [self.values.get(name) if name else None for name in node.input]
        made = self.values.get(node.input[0]) if node.output[0] in self.tail and node.input else None
        if inputs and all(isinstance(found, Constant | None) for found in inputs):
            # The Shape of an activation and what is computed of it.
            made = self._folded(node, inputs)
        found = read(self, node) if made is None else made
        if isinstance(found, Real) and not np.all((abs(found.unit) > _UNITS[0]) & (abs(found.unit) < _UNITS[1])):
            raise OnnxImportError("the product of its scales is 0, infinite or close to that", node=label(node))
        name = node.output[0]
        if isinstance(found, Real | Stored) and (len(self.readers.get(name, [])) > 1 or name in self.outputs):
            self.build.shared.add(found.value)
        self.values[name] = found

    def behind(self, node: onnx.NodeProto, *, commuting: bool = False) -> tuple[list[Quantizer], list[str]]:
        """The QuantizeLinear nodes behind a node, and its other readers; see :func:`quantizers`."""
        return quantizers(self, node, only_rearranged=not commuting)

    def takes_padding(self, node: onnx.NodeProto) -> bool:
        """Whether a node merges a Pad before it."""
        return takes_padding(node.op_type)

    # Ends

    def _enter(self, entry: onnx.ValueInfoProto) -> None:
        kind = entry.type.tensor_type
        dims = [dim.dim_value if dim.HasField("dim_value") else None for dim in kind.shape.dim]
        known = [size for size in dims[1:] if size is not None and size > 0]
        if len(dims) not in (2, 4) or len(known) != len(dims) - 1:
            raise OnnxImportError(
                f"input {entry.name[:80]!r} must be (N, C, H, W) or (N, C) with fixed C, H and W; fix them with "
                "onnxruntime.tools.make_dynamic_shape_fixed"
            )
        if entry.name == self._first_input() and dims[0]:
            self.batch = dims[0]
        if kind.elem_type in _INTEGERS:
            value = self.build.enter(entry.name, _INTEGERS[kind.elem_type], tuple(known))
            self.values[entry.name] = Stored(value)
        elif kind.elem_type == TensorProto.FLOAT:
            self.values[entry.name] = Outside(entry.name, tuple(known))
        else:
            raise OnnxImportError(f"input {entry.name[:80]!r} is neither float32 nor of 4 or 8 bits")

    def _first_input(self) -> str:
        return next((str(entry.name) for entry in self.model.graph.input if entry.name in self.readers), "")

    def _leave(self, name: str) -> str:
        found = self.values.get(name)
        if isinstance(found, Stored):
            if found.zero:
                raise OnnxImportError(
                    f"output {name[:80]!r} has a zero point of {found.zero}; end with DequantizeLinear"
                )
            return found.value
        if isinstance(found, Computed):
            raise OnnxImportError(
                f"output {name[:80]!r} is a function of one activation that was not quantized: put QuantizeLinear and "
                "DequantizeLinear behind it, or cut it off with onnx.utils.extract_model"
            )
        if not isinstance(found, Real):
            raise OnnxImportError(f"output {name[:80]!r} is not computed by the network")
        said = self.metadata.outputs.get(name)
        if said is not None and said is self.build.types[found.value].dtype and not found.is_cut:
            return found.value
        if found.layout is not None and self.build.types[found.value].shape[1:] != (1, 1):
            raise OnnxImportError(f"output {name[:80]!r} is transposed; end before that Transpose")
        settled = self.build.settle(found, name)
        if said in SUMS and settled.is_sum:
            return settled.value
        return self.build.scaled(settled, name).value

    def _ordered(self) -> list[Node]:
        """The nodes in the order of the ONNX nodes that they are named after; others stay where they were made."""
        known = {label(node): index for index, node in enumerate(self.nodes)}
        place: dict[str, tuple[int, int]] = {}
        latest = 0
        for made, node in enumerate(self.build.nodes):
            latest = known.get(node.name, latest)
            place[node.name] = (latest, made)
        return _order(self.build.nodes, place)

    def _finished(self, outputs: list[str]) -> Import:
        build = self.build
        for name in sorted(self.channels_last):
            self.notes.append(f"{name}: the file takes images with channels last, the graph with channels first")
        for name in outputs:
            shape = build.types[name].shape
            if shape[1:] not in ((), (1, 1)):
                self.notes.append(
                    f"the output {name} is {('N', *shape)}, not one number a class: only the Python API can use it"
                )
        scale = next(iter(self.input_scales.values()), None)
        graph = Graph(
            build.inputs,
            self._ordered(),
            outputs,
            preprocessing=self.metadata.preprocessing,
            class_names=self.metadata.class_names,
            task=self.metadata.task,
        )
        return Import(
            graph,
            sorted(build.roundings, key=lambda entry: -entry.error),
            scale,
            self.notes,
            dict(sorted(Counter(node.op_type for node in self.nodes).items())),
            bool(self.channels_last),
        )


def _order(nodes: Sequence[Node], place: Mapping[str, tuple[int, int]]) -> list[Node]:
    """Nodes by their places, as far as possible: each comes only after its inputs."""
    waiting = {node.name: len({name for name in node.inputs if name in place}) for node in nodes}
    readers: dict[str, list[Node]] = {}
    for node in nodes:
        for name in set(node.inputs):
            readers.setdefault(name, []).append(node)
    named = {node.name: node for node in nodes}
    ready = [(place[name], name) for name, count in waiting.items() if count == 0]
    heapq.heapify(ready)
    ordered = []
    while ready:
        _, name = heapq.heappop(ready)
        ordered.append(named[name])
        for reader in readers.get(name, []):
            waiting[reader.name] -= 1
            if waiting[reader.name] == 0:
                heapq.heappush(ready, (place[reader.name], reader.name))
    return ordered


def _outputs(model: onnx.ModelProto, output: str | None, is_ours: bool) -> list[str]:
    """The names of the outputs that are wanted."""
    names = [entry.name for entry in model.graph.output]
    listed = ", ".join(repr(name[:40]) for name in names[:8])
    if output is not None:
        if output not in names:
            raise OnnxImportError(f"has no output {output[:80]!r}, only {listed}")
        return [output]
    if len(names) > 1 and not is_ours:
        raise OnnxImportError(f"has {len(names)} outputs ({listed}); choose the one to keep: --output NAME")
    if not names:
        raise OnnxImportError("has no output")
    return names


def _needed(model: onnx.ModelProto, outputs: Sequence[str]) -> list[onnx.NodeProto]:
    """The nodes that outputs need, in the order of the file."""
    needed = set(outputs)
    kept = []
    for node in reversed(model.graph.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(name for name in node.input if name)
    return kept[::-1]
