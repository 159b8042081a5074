"""Channels of several values, one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from nybble.graph.errors import GraphError
from nybble.graph.folder import ModelFolder
from nybble.graph.layer_output import LayerOutput
from nybble.graph.lines import LayerFile
from nybble.graph.nodes import Node
from nybble.graph.ops.base import Example, Operation
from nybble.graph.ops.examples import activation
from nybble.graph.ops.forms import ExactForm, RealForm
from nybble.graph.ops.registry import register
from nybble.graph.ops.texts import extents
from nybble.graph.ops.units import Unit
from nybble.graph.types import ACTIVATIONS, Array, DType
from nybble.graph.value_type import ValueType

if TYPE_CHECKING:
    from fractions import Fraction


@dataclass(frozen=True, kw_only=True, eq=False)
class Concat(Node):
    """The channels of two or more values, one after the other: all of one activation type and one size. Type stays.

    Codes are copied, so one step must have the same meaning in all values.
    """

    input_type: DType


class ConcatOperation(Operation[Concat]):
    """Concatenation."""

    node = Concat
    unit = Unit.INPUT
    least_inputs = 2
    most_inputs = None

    def infer(self, node: Concat, inputs: Sequence[ValueType]) -> ValueType:
        """The result has the type of all inputs, and the sum of their channels."""
        first = inputs[0]
        for name, source in zip(node.inputs, inputs, strict=True):
            if source.dtype is not node.input_type or source.dtype not in ACTIVATIONS:
                raise GraphError(
                    f"is declared to join {node.input_type}, but {name} is {source.dtype}",
                    node=node.name,
                    field="compute_mode",
                )
            if source.shape[1:] != first.shape[1:]:
                raise GraphError(
                    f"cannot join {first} and {source}: they differ in more than channels",
                    node=node.name,
                    field="inputs",
                )
        channels = sum(source.shape[0] for source in inputs)
        return ValueType(first.dtype, (channels, *first.shape[1:]), max(source.magnitude for source in inputs))

    def compute(self, node: Concat, types: Sequence[ValueType], values: Sequence[Array]) -> Array:
        """Copies codes."""
        joined: Array = np.concatenate(values, axis=1)
        return joined

    def read(self, folder: ModelFolder, file: LayerFile, name: str, inputs: tuple[str, ...]) -> Concat:
        """Read one type that all inputs have, and the same type for the output."""
        input_type, output_type = file.mode(2)
        file.expect("compute_mode", output_type, input_type, "the inputs' type")
        return Concat(name=name, inputs=inputs, input_type=input_type)

    def write(self, node: Concat, output: LayerOutput, sources: Sequence[DType]) -> None:
        """Write the type twice."""
        output.text.add("compute_mode", f"{node.input_type}{node.input_type}")

    def converted(self, node: Concat, input_type: DType | None, ratio: Fraction) -> Concat:
        """Only the type changes."""
        return replace(node, input_type=input_type or node.input_type)

    def write_exact(self, node: Concat, form: ExactForm) -> None:
        """Written as Concat."""
        form.node("Concat", [form.source(name) for name in node.inputs], form.source(node.name), axis=1)

    def write_real(self, node: Concat, form: RealForm) -> None:
        """Written as Concat of real numbers, then requantized."""
        sources = [form.source(name) for name in node.inputs]
        form.store(node.name, form.node("Concat", sources, form.unstored(node.name), name=node.name, axis=1))

    def shown_inputs(self, inputs: Sequence[ValueType]) -> str:
        """The one type, then every shape."""
        return f"{inputs[0].dtype} {', '.join(extents(value.shape) for value in inputs)}"

    def examples(self, random: np.random.Generator) -> Iterator[Example[Concat]]:
        """Cover every type; two and three values of different channels, images and vectors."""
        for input_type in ACTIVATIONS:
            node = Concat(name="concat", inputs=("x", "y"), input_type=input_type)
            yield Example(node, (activation(input_type, 3, 4, 2), activation(input_type, 1, 4, 2)))
        node = Concat(name="concat", inputs=("x", "y", "z"), input_type=DType.U4)
        yield Example(node, tuple(activation(DType.U4, channels) for channels in (2, 5, 1)))


register(ConcatOperation())
