"""The interface of an operation: everything that the package needs to know about one type of node."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import numpy as np

from nybble.graph.errors import GraphError
from nybble.graph.folder import ModelFolder
from nybble.graph.layer_output import LayerOutput
from nybble.graph.lines import LayerFile
from nybble.graph.nodes import Node
from nybble.graph.ops.forms import ExactForm, RealForm
from nybble.graph.ops.reading import OnnxNode, OnnxValue
from nybble.graph.ops.roles import Requantization, Weighted
from nybble.graph.ops.texts import shown
from nybble.graph.ops.units import Unit
from nybble.graph.types import Array, DType
from nybble.graph.value_type import ValueType

if TYPE_CHECKING:
    from fractions import Fraction


N = TypeVar("N", bound=Node)

#: The methods that write each form of ONNX model; an operation that implements one of them supports the form.
_WRITERS = {
    "exact": ("write_exact",),
    "qdq": ("write_qdq", "write_real"),
    "float": ("write_float", "write_real"),
}


@dataclass(frozen=True)
class Example(Generic[N]):
    """A valid node, and the types of its inputs."""

    node: N
    inputs: tuple[ValueType, ...]


class Operation(ABC, Generic[N]):
    """Inference, integer meaning and layer file of one type of node.

    Attributes
    ----------
    node : type
        The node's dataclass. Its name is the layer type in the model directory.
    least_inputs : int
        Least number of inputs of a node.
    most_inputs : int or None
        Largest number of inputs of a node; ``None`` for no limit.
    unit : Unit or None
        The meaning of a step of the result; ``None`` if it is unknown; then no conversion is defined.
    adds : bool
        Whether the result is the sum of the inputs.
    on_host : bool
        Whether it computes real numbers from real numbers. Such nodes come after the network's integers. The engine
        runs them in NumPy, by :meth:`compute`, for every backend.
    format_version : int
        The first version of the model directory that has the layer type. A directory with such a layer gets at least
        that version, so that an older nybble refuses it because of the version.
    """

    node: ClassVar[type[Any]]
    least_inputs: ClassVar[int] = 1
    most_inputs: ClassVar[int | None] = 1
    unit: ClassVar[Unit | None] = None
    adds: ClassVar[bool] = False
    on_host: ClassVar[bool] = False
    format_version: ClassVar[int] = 1

    @property
    def kind(self) -> str:
        """The layer type as the model directory spells it."""
        return self.node.__name__

    @abstractmethod
    def infer(self, node: N, inputs: Sequence[ValueType]) -> ValueType:
        """Type, shape and largest magnitude of the result.

        The caller has checked the number of inputs, and checks the result against the general limits. Raises
        :class:`GraphError` naming the node and the attribute that does not fit.
        """

    @abstractmethod
    def compute(self, node: N, types: Sequence[ValueType], values: Sequence[Array]) -> Array:
        """The result for a batch, from the types and the arrays (batch first) of what the node reads.

        This is the definition of the operation. The dtype is ``infer(...).dtype.storage``. The node is valid for those
        types and the arrays are in their range; nothing is checked.
        """

    @abstractmethod
    def read(self, folder: ModelFolder, file: LayerFile, name: str, inputs: tuple[str, ...]) -> N:
        """The node that a layer file describes.

        Raises :class:`ModelFormatError` on a missing or wrong key. :meth:`infer` checks what depends on the inputs'
        types; the caller refuses keys that were not read.
        """

    @abstractmethod
    def write(self, node: N, output: LayerOutput, sources: Sequence[DType]) -> None:
        """Add the node's lines and tensors; ``sources`` are the element types of what it reads."""

    @abstractmethod
    def examples(self, random: np.random.Generator) -> Iterator[Example[N]]:
        """Small nodes that cover the attributes. Tests run every registered operation on its examples."""

    def expanded(self, node: N, inputs: Sequence[ValueType]) -> Sequence[Node] | None:
        """Nodes of other operations that together give the same result, bit for bit; ``None`` if there are none.

        Backends that do not know the operation run these. The last one has the node's name, the others have names that
        begin with it. They read the inputs of the node.
        """
        return None

    def converted(self, node: N, input_type: DType | None, ratio: Fraction) -> N:
        """The node in other units: one old unit of its result equals ``ratio`` new ones. A real result has the units of
        its sums.

        Parameters
        ----------
        node : Node
        input_type : DType or None
            The activation type that it now reads; ``None`` where it reads sums.
        ratio : Fraction

        Raises
        ------
        GraphError
            If there is no such node, or one of its constants exceeds its range.
        """
        raise GraphError(f"no conversion is defined for {node.op}", node=node.name)

    def narrowed(self, node: N, dtype: DType) -> N | None:
        """The node with its results clipped to the range of a narrower activation type, if there is such a node."""
        return None

    def resized(self, node: N, before: Sequence[ValueType], after: Sequence[ValueType]) -> N:
        """The node in a network whose input has another size; most nodes stay as they are.

        Parameters
        ----------
        node : Node
        before, after : sequence of ValueType
            What it reads at the old and the new size. They differ in extents of images or of real values alone.

        Raises
        ------
        GraphError
            If the new extents do not determine the new node.
        """
        del before, after
        return node

    def weighted(self, node: N) -> Weighted | None:
        """The node, if its result is sums of products with constant weights."""
        return None

    def requantization(self, node: N) -> Requantization | None:
        """The node, if its result is a multiple of its input, rounded and clipped."""
        return None

    def is_homogeneous(self, node: N) -> bool:
        """Whether it has one input, and a positive factor of that is the same factor of the result."""
        return False

    def real_unit(self, node: N, types: Sequence[ValueType], units: Sequence[Array]) -> Array | None:
        """The real value of one step of the result, (channels), if those of the inputs determine it; else ``None``.

        Parameters
        ----------
        node : Node
        types : sequence of ValueType
            Of what it reads.
        units : sequence of array
            Real values of one step of what it reads, float64 (channels).
        """
        return np.concatenate(units) if self.unit is Unit.INPUT else None

    def wanted_unit(self, node: N) -> Array | None:
        """The preferred real value of one step of the sums that it reads, (channels), if there is one."""
        return None

    def parts(self, node: N, types: Sequence[ValueType]) -> int | None:
        """For an average, rounded with halves up: the number ``n`` such that its exact values are multiples of 1 / n
        steps.

        ``types`` are those of what the node reads. ``None`` where it is not an average.
        """
        return None

    # ONNX forms

    def write_exact(self, node: N, form: ExactForm) -> None:
        """Write the node into an ONNX model that equals the reference in every value."""
        raise GraphError(f"no exact ONNX form is defined for {node.op}", node=node.name)

    def write_real(self, node: N, form: RealForm) -> None:
        """Write the node into a QDQ or a float model, if both have the same nodes for it."""
        raise GraphError(f"no ONNX form is defined for {node.op}", node=node.name)

    def write_qdq(self, node: N, form: RealForm) -> None:
        """Write the node into an ONNX model with QuantizeLinear and DequantizeLinear."""
        self.write_real(node, form)

    def write_float(self, node: N, form: RealForm) -> None:
        """Write the node into a float ONNX model: its computation without the rounding."""
        self.write_real(node, form)

    #: The ONNX operators that :meth:`read_onnx` may accept.
    onnx_operators: ClassVar[tuple[str, ...]] = ()

    def read_onnx(self, node: OnnxNode) -> OnnxValue | None:
        """Add the graph's nodes for an ONNX node; returns its output, or ``None`` if the node is not of this operation.

        Called for the operators of :attr:`onnx_operators`, before the readers of :mod:`nybble.graph.onnx.operators`.
        Raises GraphError naming the ONNX node if it is of this operation but cannot be imported.
        """
        return None

    def onnx_hint(self, node: N) -> Mapping[str, Any]:
        """Facts about a node that a QDQ model cannot express, for its import: numbers, texts and lists of them."""
        return {}

    def has_form(self, form: str) -> bool:
        """Whether nodes can be written in a form of ONNX model, ``exact``, ``qdq`` or ``float``, as they are."""
        return any(getattr(type(self), name) is not getattr(Operation, name) for name in _WRITERS[form])

    def macs(self, node: N, result: ValueType) -> int:
        """Multiply-accumulates of one image, those with padding included; ``result`` is what :meth:`infer` gave."""
        return 0

    def details(self, node: N) -> Sequence[str]:
        """Attributes as text, such as ``stride 2``; those with their usual value are left out.

        Types, shapes and sizes of constants are shown without it.
        """
        return ()

    def shown_inputs(self, inputs: Sequence[ValueType]) -> str:
        """The inputs of a node as text: types and shapes. If all shapes agree, they are given once."""
        return shown(inputs, " + ")

    def declared_inputs(self, file: LayerFile) -> Sequence[DType]:
        """Types of the inputs that the layer file declares, if the node itself does not have them."""
        return ()
