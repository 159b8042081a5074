"""Addition of sums."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nybble.graph.errors import GraphError
from nybble.graph.folder import ModelFolder
from nybble.graph.layer_output import LayerOutput
from nybble.graph.lines import LayerFile
from nybble.graph.nodes import Node
from nybble.graph.ops.base import Example, Operation
from nybble.graph.ops.examples import sums
from nybble.graph.ops.forms import ExactForm, RealForm
from nybble.graph.ops.registry import register
from nybble.graph.ops.units import Unit
from nybble.graph.types import SUMS, Array, DType
from nybble.graph.value_type import ValueType

if TYPE_CHECKING:
    from fractions import Fraction


@dataclass(frozen=True, kw_only=True, eq=False)
class Add(Node):
    """Exact sum of two 32-bit tensors of one shape. s32 or u31 in, s32 out."""


class AddOperation(Operation[Add]):
    """Addition."""

    node = Add
    unit = Unit.JOINT
    adds = True
    least_inputs = 2
    most_inputs = 2

    def infer(self, node: Add, inputs: Sequence[ValueType]) -> ValueType:
        """The result is s32; the magnitudes add up."""
        left, right = inputs
        for source in inputs:
            if source.dtype not in SUMS:
                raise GraphError(f"cannot add {source.dtype}, only s32 and u31", node=node.name, field="inputs")
        if left.shape != right.shape:
            raise GraphError(f"cannot add {left} and {right}: the shapes differ", node=node.name, field="inputs")
        return ValueType(DType.S32, left.shape, left.magnitude + right.magnitude)

    def compute(self, node: Add, types: Sequence[ValueType], values: Sequence[Array]) -> Array:
        """Sums stay within 32 bits: a valid graph bounds them by 2**31 - 1."""
        left, right = values
        result: Array = left + right
        return result

    def read(self, folder: ModelFolder, file: LayerFile, name: str, inputs: tuple[str, ...]) -> Add:
        """The node carries no types: see :meth:`declared_inputs`."""
        file.expect("compute_mode", file.mode(3)[2], DType.S32, "the output of Add:")
        return Add(name=name, inputs=inputs)

    def write(self, node: Add, output: LayerOutput, sources: Sequence[DType]) -> None:
        """Write the types of both inputs and of the sum."""
        output.text.add("compute_mode", f"{''.join(sources)}{DType.S32}")

    def declared_inputs(self, file: LayerFile) -> Sequence[DType]:
        """The first two types of ``compute_mode``."""
        return file.mode(3)[:2]

    def converted(self, node: Add, input_type: DType | None, ratio: Fraction) -> Add:
        """The node stays the same: sums of one unit can be added in any unit."""
        return node

    def write_exact(self, node: Add, form: ExactForm) -> None:
        """Written as Add, of integers in float32 or in int32."""
        kind = np.float32 if form.is_float[node.name] else np.int32
        sides = [form.converted(name, kind, node.name) for name in node.inputs]
        form.node("Add", sides, form.source(node.name))

    def write_real(self, node: Add, form: RealForm) -> None:
        """Written as Add, with both sides in the unit of the sum."""
        unit = form.units[node.name]
        form.node("Add", [form.in_units(name, unit, node.name) for name in node.inputs], node.name)

    def examples(self, random: np.random.Generator) -> Iterator[Example[Add]]:
        """Cover both types of sums on both sides, images and vectors."""
        for left in SUMS:
            for right in SUMS:
                node = Add(name="add", inputs=("x", "y"))
                yield Example(node, (sums(left, 3, 4, 2), sums(right, 3, 4, 2)))
        yield Example(Add(name="add", inputs=("x", "y")), (sums(DType.S32, 5), sums(DType.S32, 5)))


register(AddOperation())
