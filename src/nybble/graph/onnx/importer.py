"""From an ONNX QDQ model to a graph."""

from __future__ import annotations

import heapq
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import onnx
from onnx import TensorProto

from nybble.graph.errors import GraphError
from nybble.graph.graph import Graph
from nybble.graph.nodes import Node, Scale
from nybble.graph.onnx.builder import Builder, Rounding
from nybble.graph.onnx.errors import OnnxImportError
from nybble.graph.onnx.load import label, load, values_of
from nybble.graph.onnx.metadata import Metadata, read_metadata
from nybble.graph.onnx.operators import OPERATORS, PADDED, REMEDIES
from nybble.graph.onnx.values import Constant, Outside, Real, Stored, Value
from nybble.graph.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from nybble.graph.tensor import Tensor
from nybble.graph.types import SUMS, DType

#: Element types an input may have.
_INTEGERS = {
    TensorProto.INT8: DType.S8,
    TensorProto.UINT8: DType.U8,
    TensorProto.INT4: DType.S4,
    TensorProto.UINT4: DType.U4,
}
#: What damaged models make of code that reads them.
_MALFORMED = (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, ArithmeticError, MemoryError)


@dataclass(frozen=True)
class Import:
    """A graph and how it came about.

    Attributes
    ----------
    graph : Graph
    roundings : list of Rounding
        Where an integer stands for a real number it does not equal; largest first.
    input_scale : float or None
        What a step of the input is, where the model takes real numbers.
    notes : list of str
        What was left out.
    operators : mapping of str to int
        How often each ONNX operator occurred.
    """

    graph: Graph
    roundings: Sequence[Rounding]
    input_scale: float | None
    notes: Sequence[str]
    operators: Mapping[str, int] = field(default_factory=dict)

    def for_photos(
        self,
        *,
        resize: int | None = None,
        interpolation: str = "bilinear",
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
    ) -> Import:
        """The same with preprocessing: a photo, normalised like this, is what the input's scale counts in.

        Parameters
        ----------
        resize : int, optional
            Pixels of the short side before the crop to the input's size; 8/7 of that.
        interpolation, mean, std
            As in :class:`nybble.graph.Preprocessing`.

        Raises
        ------
        GraphError
            If the graph's input is not a single image of that many channels.
        """
        entry = self.graph.inputs[0]
        if len(entry.shape) != 3:
            raise GraphError(f"the input {entry.shape} is no image", field="preprocessing")
        crop = (entry.shape[1], entry.shape[2])
        made = Preprocessing(
            resize=max(crop) * 8 // 7 if resize is None else resize,
            crop=crop,
            interpolation=interpolation,
            mean=mean,
            std=std,
            input_type=entry.dtype,
            scale_numerator=1.0,
            scale_denominator=1.0 if self.input_scale is None else self.input_scale,
        )
        old = self.graph
        graph = Graph(old.inputs, old.nodes, old.outputs, preprocessing=made, class_names=old.class_names)
        return replace(self, graph=graph)

    @property
    def largest(self) -> Rounding | None:
        """The largest error, in steps of what the node makes."""
        return self.roundings[0] if self.roundings else None


def import_onnx(path: str | os.PathLike[str]) -> Import:
    """Read a QDQ model from a file; see :func:`from_onnx`."""
    model = load(path)
    try:
        return from_onnx(model)
    except OnnxImportError as error:
        raise OnnxImportError(error.message, node=error.node, path=os.fspath(path)) from error


def from_onnx(model: onnx.ModelProto) -> Import:
    """Make a graph of a QDQ model with 4- or 8-bit weights and activations and zero points that nybble has.

    Weights, zero points and types are taken as they are; scales become factors and shifts, which is reported.

    Parameters
    ----------
    model : onnx.ModelProto

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
        return Importer(model, metadata).run()
    except GraphError as error:
        raise OnnxImportError(error.message, node=error.node) from error
    except OnnxImportError:
        raise
    except _MALFORMED as error:
        raise OnnxImportError(f"is malformed ({type(error).__name__}: {str(error)[:200]})") from error


class Importer:
    """Walks the nodes in their order and keeps what each ONNX value is."""

    def __init__(self, model: onnx.ModelProto, metadata: Metadata) -> None:
        self.model = model
        self.metadata = metadata
        self.build = Builder(metadata)
        self.values: dict[str, Value] = {}
        #: ONNX element types of constants.
        self.kinds: dict[str, int] = {}
        self.notes: list[str] = []
        self.input_scales: dict[str, float] = {}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in model.graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        self.outputs = {entry.name for entry in model.graph.output}

    def run(self) -> Import:
        """Take the nodes in their order, then the outputs."""
        graph = self.model.graph
        for tensor in graph.initializer:
            self.values[tensor.name] = Constant(values_of(tensor))
            self.kinds[tensor.name] = tensor.data_type
        if graph.sparse_initializer:
            raise OnnxImportError("holds sparse constants, which are not supported")
        for entry in graph.input:
            if entry.name not in self.values:
                self._enter(entry)
        for node in graph.node:
            if node.op_type not in OPERATORS:
                raise OnnxImportError(unsupported(node.op_type), node=label(node))
            if len(node.output) > 1 and any(node.output[1:]):
                raise OnnxImportError(f"{node.op_type} with several outputs is not supported", node=label(node))
            self.values[node.output[0]] = OPERATORS[node.op_type](self, node)
        outputs = [self._leave(entry.name) for entry in graph.output]
        return self._finished(outputs)

    # What operators ask for

    def value(self, node: onnx.NodeProto, index: int) -> Value:
        """What a node reads; there must be such an input."""
        if index >= len(node.input) or not node.input[index]:
            raise OnnxImportError(f"{node.op_type} lacks input {index}", node=label(node))
        if node.input[index] not in self.values:
            raise OnnxImportError(f"reads {node.input[index][:80]!r}, which nothing makes", node=label(node))
        return self.values[node.input[index]]

    def has(self, node: onnx.NodeProto, index: int) -> bool:
        """Whether an optional input is given."""
        return index < len(node.input) and bool(node.input[index])

    def constant(self, node: onnx.NodeProto, index: int, what: str) -> Constant:
        """An input that must be a constant."""
        found = self.value(node, index)
        if not isinstance(found, Constant):
            raise OnnxImportError(f"its {what} must be a constant", node=label(node))
        return found

    def real(self, node: onnx.NodeProto, index: int) -> Real:
        """An input that must be real numbers that the graph knows the integers of."""
        found = self.value(node, index)
        if isinstance(found, Real):
            if found.padding is not None and node.op_type not in PADDED:
                raise OnnxImportError(f"a Pad before {node.op_type} is not supported", node=label(node))
            return found
        if isinstance(found, Outside):
            raise OnnxImportError(
                f"reads the input {found.name!r}, which nothing has quantized: the first node must be QuantizeLinear "
                "(leave normalisation to the preprocessing)",
                node=label(node),
            )
        kind = "a constant" if isinstance(found, Constant) else "integers"
        raise OnnxImportError(f"reads {kind} where real numbers of the network are expected", node=label(node))

    def activation(self, node: onnx.NodeProto, index: int) -> Real:
        """An input that must be an activation as it is stored: DequantizeLinear's output."""
        found = self.real(node, index)
        if not found.is_plain:
            raise OnnxImportError(
                f"{node.op_type} reads {node.input[index][:80]!r}, which was not quantized: "
                "put QuantizeLinear and DequantizeLinear before it (quantize all its inputs)",
                node=label(node),
            )
        return found

    def scale_behind(self, node: onnx.NodeProto) -> float | None:
        """The scale of the one QuantizeLinear that reads what a node makes, if there is nothing else."""
        name = node.output[0]
        for _ in range(4):
            readers = self.readers.get(name, [])
            if len(readers) != 1:
                return None
            (reader,) = readers
            if reader.op_type == "QuantizeLinear":
                scale = self.values.get(reader.input[1]) if len(reader.input) > 1 else None
                return (
                    float(scale.real.reshape(-1)[0]) if isinstance(scale, Constant) and scale.real.size == 1 else None
                )
            if reader.op_type not in ("Flatten", "Reshape", "Squeeze", "Identity", "Dropout", "Cast", "Round"):
                constants = [self.values.get(entry) for entry in reader.input]
                if reader.op_type != "Add" or not any(isinstance(c, Constant) and c.real.size == 1 for c in constants):
                    return None
            name = reader.output[0]
        return None

    def reads_only(self, name: str, node: onnx.NodeProto) -> bool:
        """Whether nobody else reads an ONNX value."""
        return len(self.readers.get(name, [])) == 1 and name not in self.outputs

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
        if kind.elem_type in _INTEGERS:
            value = self.build.enter(entry.name, _INTEGERS[kind.elem_type], tuple(known))
            self.values[entry.name] = Stored(value)
        elif kind.elem_type == TensorProto.FLOAT:
            self.values[entry.name] = Outside(entry.name, tuple(known))
        else:
            raise OnnxImportError(f"input {entry.name[:80]!r} is neither float32 nor of 4 or 8 bits")

    def _leave(self, name: str) -> str:
        found = self.values.get(name)
        if isinstance(found, Stored):
            if found.zero:
                raise OnnxImportError(
                    f"output {name[:80]!r} has a zero point of {found.zero}; end with DequantizeLinear"
                )
            return found.value
        if not isinstance(found, Real):
            raise OnnxImportError(f"output {name[:80]!r} is nothing that the network computes")
        said = self.metadata.outputs.get(name)
        if said is not None and said is self.build.types[found.value].dtype and not found.is_cut:
            return found.value
        settled = self.build.settle(found, name)
        if said in SUMS and settled.is_sum:
            return settled.value
        lifted = self.build.lift(settled)
        unit = lifted.unit
        if not np.all(np.isfinite(unit)) or np.any(unit == 0):
            raise OnnxImportError(f"output {name[:80]!r} was multiplied by 0")
        scales = Tensor.from_array(DType.F32, (1.0 / unit).astype(np.float32))
        return self.build.add(Scale(name=self.build.free(name), inputs=(lifted.value,), out_scale=scales))

    def _ordered(self) -> list[Node]:
        """The nodes in the order of the ONNX nodes that they are called after, others where they were made."""
        known = {label(node): index for index, node in enumerate(self.model.graph.node)}
        place: dict[str, tuple[int, int]] = {}
        latest = 0
        for made, node in enumerate(self.build.nodes):
            latest = known.get(node.name, latest)
            place[node.name] = (latest, made)
        return _order(self.build.nodes, place)

    def _finished(self, outputs: list[str]) -> Import:
        build = self.build
        scale = next(iter(self.input_scales.values()), None)
        graph = Graph(
            build.inputs,
            self._ordered(),
            outputs,
            preprocessing=self.metadata.preprocessing,
            class_names=self.metadata.class_names,
        )
        return Import(
            graph,
            sorted(build.roundings, key=lambda entry: -entry.error),
            scale,
            self.notes,
            dict(sorted(Counter(node.op_type for node in self.model.graph.node).items())),
        )


def _order(nodes: Sequence[Node], place: Mapping[str, tuple[int, int]]) -> list[Node]:
    """Nodes by their places, as far as each may come only after what it reads."""
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


def unsupported(operator: str) -> str:
    """The text for an operator that has no form here."""
    remedy = REMEDIES.get(operator, "the engine has no such layer; take it out of the network, or replace it")
    return f"operator {operator[:60]} is not supported: {remedy}"
