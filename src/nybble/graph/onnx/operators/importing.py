"""The interface between an import and its readers of ONNX operators."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property

import onnx

from nybble.graph.onnx.builder import Builder
from nybble.graph.onnx.errors import OnnxImportError
from nybble.graph.onnx.load import label
from nybble.graph.onnx.metadata import Metadata
from nybble.graph.onnx.regions import Regions
from nybble.graph.onnx.values import Computed, Constant, Outside, Quantizer, Real, Value
from nybble.graph.types import DType


class Importing(ABC):
    """The meaning of each ONNX value, as far as the import has come.

    Parameters
    ----------
    nodes : list of onnx.NodeProto
        Those that the import takes.
    outputs : list of str
        The outputs that are wanted.
    metadata : Metadata
    """

    def __init__(self, nodes: list[onnx.NodeProto], outputs: list[str], metadata: Metadata) -> None:
        self.build = Builder(metadata)
        self.values: dict[str, Value] = {}
        #: Images that the model takes at a time, where that is fixed.
        self.batch: int | None = None
        self.notes: list[str] = []
        #: Values behind a Softmax that is left out, and the values before it.
        self.tail: set[str] = set()
        #: Inputs whose channels are last in the file, and first in the graph.
        self.channels_last: set[str] = set()
        self.input_scales: dict[str, float] = {}
        #: Of float inputs: the graph's input, the zero point, the type and the scale that they were quantized with.
        self.entered: dict[str, tuple[str, int, DType, float]] = {}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in nodes:
            for name in dict.fromkeys(node.input):
                self.readers.setdefault(name, []).append(node)
        self.outputs = set(outputs)
        self._nodes = nodes
        #: Names of nodes of real numbers, as nybble has written them.
        self._real = [name for name, hint in metadata.nodes.items() if not {"scale", "host"}.isdisjoint(hint.other)]

    @cached_property
    def regions(self) -> Regions:
        """Which values are functions of one activation; to be asked for when constants are known."""
        return Regions(
            self._nodes, self.values, self.readers, self.outputs, is_ours=self.build.is_ours, apart=self._real
        )

    @abstractmethod
    def behind(self, node: onnx.NodeProto, *, commuting: bool = False) -> tuple[list[Quantizer], list[str]]:
        """The QuantizeLinear nodes behind a node, and the operators of its other readers."""

    @abstractmethod
    def takes_padding(self, node: onnx.NodeProto) -> bool:
        """Whether a node takes over a Pad before it."""

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
            if found.padding is not None and not self.takes_padding(node):
                raise OnnxImportError(f"a Pad before {node.op_type} is not supported", node=label(node))
            return found
        if isinstance(found, Outside):
            raise OnnxImportError(
                f"reads the input {found.name!r}, which nothing has quantized: the first node must be QuantizeLinear "
                "(leave normalisation to the preprocessing)",
                node=label(node),
            )
        if isinstance(found, Computed):
            raise OnnxImportError(
                f"reads {node.input[index][:80]!r}, a function of one activation, which was not quantized: put "
                "QuantizeLinear and DequantizeLinear behind it",
                node=label(node),
            )
        if isinstance(found, Constant):
            raise OnnxImportError("reads a constant where real numbers of the network are expected", node=label(node))
        raise OnnxImportError(
            "reads integers where real numbers are expected: put DequantizeLinear before it (leave normalisation to "
            "the preprocessing)",
            node=label(node),
        )

    def activation(self, node: onnx.NodeProto, index: int) -> Real:
        """An input that must be an activation as it is stored: DequantizeLinear's output."""
        found = self.real(node, index)
        if not found.is_stored:
            raise OnnxImportError(
                f"{node.op_type} reads {node.input[index][:80]!r}, which was not quantized: "
                "put QuantizeLinear and DequantizeLinear before it (quantize all its inputs)",
                node=label(node),
            )
        return found

    def reads_only(self, name: str, node: onnx.NodeProto) -> bool:
        """Whether an ONNX value has only one reader."""
        return len(self.readers.get(name, [])) == 1 and name not in self.outputs
