"""The base of operations that only move codes: each code of the result is a code of the input, or zero."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

import numpy as np

from nybble.graph.errors import GraphError
from nybble.graph.folder import ModelFolder
from nybble.graph.layer_output import LayerOutput
from nybble.graph.lines import LayerFile
from nybble.graph.ops.base import Operation
from nybble.graph.ops.checks import check_input_type, image_shape
from nybble.graph.ops.forms import ExactForm, Form, RealForm
from nybble.graph.ops.units import Unit
from nybble.graph.types import ACTIVATIONS, Array, DType
from nybble.graph.value_type import MAX_ELEMENTS, ValueType

if TYPE_CHECKING:
    from fractions import Fraction

N = TypeVar("N", bound=Any)


class Moving(Protocol):
    """A node that only moves codes."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def inputs(self) -> tuple[str, ...]:
        """What it reads."""
        ...

    @property
    def input_type(self) -> DType:
        """The activation type that it reads and gives."""
        ...


@dataclass(frozen=True)
class Moves:
    """The sources of the codes of a result.

    Row ``y`` and column ``x`` of the result are row ``rows[y]`` and column ``columns[x]`` of the input; channel ``c``
    is channel ``channels[row_maps[y] + column_maps[x]][c]`` there. An index of -1 stands for zeros.

    Attributes
    ----------
    rows, columns : tuple of int
    channels : tuple of tuple of int
        All of one length.
    row_maps, column_maps : tuple of int
        Zeros by default.
    """

    rows: tuple[int, ...]
    columns: tuple[int, ...]
    channels: tuple[tuple[int, ...], ...]
    row_maps: tuple[int, ...] = ()
    column_maps: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name, places in (("row_maps", self.rows), ("column_maps", self.columns)):
            if not getattr(self, name):
                object.__setattr__(self, name, (0,) * len(places))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of the result."""
        return len(self.channels[0]), len(self.rows), len(self.columns)

    def apply(self, images: Array) -> Array:
        """The result for a batch (N, C, H, W)."""
        result = np.zeros((len(images), *self.shape), images.dtype)
        rows, columns = np.array(self.rows), np.array(self.columns)
        for first in sorted(set(self.row_maps)):
            ys = np.flatnonzero((np.array(self.row_maps) == first) & (rows >= 0))
            for second in sorted(set(self.column_maps)):
                xs = np.flatnonzero((np.array(self.column_maps) == second) & (columns >= 0))
                channels = np.array(self.channels[first + second])
                cs = np.flatnonzero(channels >= 0)
                found = images[:, channels[cs]][:, :, rows[ys]][:, :, :, columns[xs]]
                result[np.ix_(np.arange(len(images)), cs, ys, xs)] = found
        return result


class MovingOperation(Operation[N]):
    """Codes are copied; their type stays."""

    unit = Unit.INPUT
    format_version = 3

    @abstractmethod
    def moves(self, node: N, shape: tuple[int, int, int]) -> Moves:
        """The sources of codes for an input of a shape (C, H, W). Raises GraphError if the shape does not fit."""

    @abstractmethod
    def result_shape(self, node: N, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """The shape of the result, without computing indices, which could be large. Raises as :meth:`moves`."""

    @abstractmethod
    def attributes(self, node: N) -> Mapping[str, object]:
        """The node's own lines in its layer file."""

    @abstractmethod
    def read_attributes(self, folder: ModelFolder, file: LayerFile) -> Mapping[str, Any]:
        """The node's own attributes, from its layer file."""

    @abstractmethod
    def write_onnx(self, node: N, form: Form, source: str, output: str) -> str:
        """Write the ONNX node that moves numbers the same way; its output."""

    def infer(self, node: N, inputs: Sequence[ValueType]) -> ValueType:
        """The result has the input's type and magnitude."""
        (source,) = inputs
        check_input_type(node, source, node.input_type, ACTIVATIONS)
        shape = self.result_shape(node, image_shape(node, source))
        if min(shape) < 1 or int(np.prod([int(extent) for extent in shape])) > MAX_ELEMENTS:
            raise GraphError(f"its result would be {shape}", node=node.name)
        return ValueType(source.dtype, shape, source.magnitude)

    def compute(self, node: N, types: Sequence[ValueType], values: Sequence[Array]) -> Array:
        """Copies codes by the indices of :meth:`moves`."""
        return self.moves(node, cast(tuple[int, int, int], types[0].shape)).apply(values[0])

    def read(self, folder: ModelFolder, file: LayerFile, name: str, inputs: tuple[str, ...]) -> N:
        """Read the type of the input, the same type for the output, then the node's own lines."""
        input_type, output_type = file.mode(2)
        file.expect("compute_mode", output_type, input_type, "the input's type")
        made: N = self.node(name=name, inputs=inputs, input_type=input_type, **self.read_attributes(folder, file))
        return made

    def write(self, node: N, output: LayerOutput, sources: Sequence[DType]) -> None:
        """Write the type twice, then the node's own lines."""
        output.text.add("compute_mode", f"{node.input_type}{node.input_type}")
        for key, value in self.attributes(node).items():
            output.text.add(key, value)

    def converted(self, node: N, input_type: DType | None, ratio: Fraction) -> N:
        """Only the type changes."""
        made: N = replace(node, input_type=input_type or node.input_type)
        return made

    def real_unit(self, node: N, types: Sequence[ValueType], units: Sequence[Array]) -> Array:
        """The units of the channels that are combined, which must agree."""
        shape = cast(tuple[int, int, int], types[0].shape)
        maps = np.array(self.moves(node, shape).channels)
        found = np.where(maps >= 0, units[0][np.maximum(maps, 0)], np.nan)
        least, most = np.fmin.reduce(found), np.fmax.reduce(found)
        if not np.all((least == most) | np.isnan(least)):
            raise GraphError("mixes channels whose steps stand for different numbers", node=node.name)
        unit: Array = np.where(np.isnan(least), np.median(units[0]), least)
        return unit

    def write_exact(self, node: N, form: ExactForm) -> None:
        """Written by :meth:`write_onnx`, of integers in float32."""
        self.write_onnx(node, form, form.source(node.inputs[0]), form.source(node.name))

    def write_real(self, node: N, form: RealForm) -> None:
        """Written by :meth:`write_onnx`, of real numbers, then requantized."""
        form.store(node.name, self.write_onnx(node, form, form.source(node.inputs[0]), form.unstored(node.name)))
