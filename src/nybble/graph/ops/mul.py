"""Product of two activations, or of an activation and a gate."""

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
from nybble.graph.ops.examples import activation
from nybble.graph.ops.forms import ExactForm, RealForm
from nybble.graph.ops.reading import OnnxNode, OnnxValue
from nybble.graph.ops.registry import register
from nybble.graph.ops.texts import shown
from nybble.graph.ops.units import Unit
from nybble.graph.types import ACTIVATIONS, Array, DType
from nybble.graph.value_type import ValueType

if TYPE_CHECKING:
    from fractions import Fraction


@dataclass(frozen=True, kw_only=True, eq=False)
class Mul(Node):
    """Exact product of two activations, whose types may differ; s32.

    The second value has the shape of the first, or is a gate: (C, 1, 1) beside a first one of (C, H, W).
    """


class MulOperation(Operation[Mul]):
    """Multiplication, as of squeeze-and-excitation."""

    node = Mul
    unit = Unit.PRODUCT
    least_inputs = 2
    most_inputs = 2
    format_version = 2
    onnx_operators = ("Mul",)

    def infer(self, node: Mul, inputs: Sequence[ValueType]) -> ValueType:
        """The result is s32 of the first value's shape; the magnitudes multiply."""
        left, right = inputs
        for source in inputs:
            if source.dtype not in ACTIVATIONS:
                raise GraphError(
                    f"cannot multiply {source.dtype}, only {', '.join(ACTIVATIONS)}", node=node.name, field="inputs"
                )
        if right.shape != left.shape and right.shape != (left.shape[0], 1, 1):
            raise GraphError(
                f"cannot multiply {left} by {right}: the second needs the first one's shape, or its channels by 1x1",
                node=node.name,
                field="inputs",
            )
        if len(right.shape) != len(left.shape):
            raise GraphError(
                f"cannot multiply {left} by {right}: one is an image, the other a vector",
                node=node.name,
                field="inputs",
            )
        return ValueType(DType.S32, left.shape, left.magnitude * right.magnitude)

    def compute(self, node: Mul, types: Sequence[ValueType], values: Sequence[Array]) -> Array:
        """Computes in 32 bits, which hold every product of activations. A gate is repeated over rows and columns."""
        left, right = values
        product: Array = left.astype(np.int32) * right.astype(np.int32)
        return product

    def read(self, folder: ModelFolder, file: LayerFile, name: str, inputs: tuple[str, ...]) -> Mul:
        """The node carries no types: see :meth:`declared_inputs`."""
        file.expect("compute_mode", file.mode(3)[2], DType.S32, "the output of Mul:")
        return Mul(name=name, inputs=inputs)

    def write(self, node: Mul, output: LayerOutput, sources: Sequence[DType]) -> None:
        """Write the types of both inputs and of the product."""
        output.text.add("compute_mode", f"{''.join(sources)}{DType.S32}")

    def declared_inputs(self, file: LayerFile) -> Sequence[DType]:
        """The first two types of ``compute_mode``."""
        return file.mode(3)[:2]

    def converted(self, node: Mul, input_type: DType | None, ratio: Fraction) -> Mul:
        """The unit of the product is the product of the new units."""
        return node

    def real_unit(self, node: Mul, types: Sequence[ValueType], units: Sequence[Array]) -> Array:
        """The product of both units."""
        product: Array = units[0] * units[1]
        return product

    def write_exact(self, node: Mul, form: ExactForm) -> None:
        """Written as Mul; float32 holds all products of activations."""
        form.node("Mul", [form.source(name) for name in node.inputs], form.source(node.name))
        form.is_float[node.name] = True

    def write_real(self, node: Mul, form: RealForm) -> None:
        """Written as Mul of real numbers."""
        form.node("Mul", [form.source(name) for name in node.inputs], node.name)

    def read_onnx(self, node: OnnxNode) -> OnnxValue | None:
        """Reads Mul of two activations; either may be a gate."""
        if node.is_constant(0) or node.is_constant(1):
            return None
        left, right = node.activation(0), node.activation(1)
        shapes = [node.type_of(value).shape for value in (left, right)]
        if shapes[0] != shapes[1] and shapes[0] == (shapes[1][0], 1, 1):
            left, right = right, left
        made = node.add(Mul(name=node.free(node.name), inputs=(left.name, right.name)))
        return OnnxValue(made, left.unit * right.unit)

    def shown_inputs(self, inputs: Sequence[ValueType]) -> str:
        """The factors."""
        return shown(inputs, " * ")

    def examples(self, random: np.random.Generator) -> Iterator[Example[Mul]]:
        """Cover every pair of types: of one shape, and as a gate; vectors, and an image of one pixel."""
        node = Mul(name="mul", inputs=("x", "y"))
        for left in ACTIVATIONS:
            for right in ACTIVATIONS:
                yield Example(node, (activation(left, 3, 4, 2), activation(right, 3, 4, 2)))
                yield Example(node, (activation(left, 5, 3, 2), activation(right, 5, 1, 1)))
        yield Example(node, (activation(DType.U4, 6), activation(DType.S8, 6)))
        yield Example(node, (activation(DType.S4, 4, 1, 1), activation(DType.U7, 4, 1, 1)))


register(MulOperation())
