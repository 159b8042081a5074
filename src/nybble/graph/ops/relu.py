"""ReLU of sums, with or without a maximum."""

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
from nybble.graph.ops.checks import check_input_type
from nybble.graph.ops.examples import SUM_MAGNITUDE, sums
from nybble.graph.ops.forms import EXACT, ExactForm, RealForm
from nybble.graph.ops.registry import register
from nybble.graph.ops.units import Unit, rounded
from nybble.graph.types import SUM_LIMIT, SUMS, Array, DType
from nybble.graph.value_type import ValueType

if TYPE_CHECKING:
    from fractions import Fraction


@dataclass(frozen=True, kw_only=True, eq=False)
class ReLU(Node):
    """``max(0, x)``, and ``min(maximum, .)`` where a maximum is given. s32 or u31 in, u31 out."""

    input_type: DType = DType.S32
    maximum: int | None = None


class ReLUOperation(Operation[ReLU]):
    """ReLU."""

    node = ReLU
    unit = Unit.JOINT

    def infer(self, node: ReLU, inputs: Sequence[ValueType]) -> ValueType:
        """The result is u31 of the input's shape."""
        (source,) = inputs
        check_input_type(node, source, node.input_type, SUMS)
        magnitude = source.magnitude
        if node.maximum is not None:
            if not 0 <= node.maximum <= SUM_LIMIT:
                raise GraphError(f"maximum={node.maximum} is not in 0..{SUM_LIMIT}", node=node.name, field="maximum")
            magnitude = min(magnitude, node.maximum)
        return ValueType(DType.U31, source.shape, magnitude)

    def compute(self, node: ReLU, types: Sequence[ValueType], values: Sequence[Array]) -> Array:
        """Computes the formula of the node."""
        positive = np.maximum(values[0], np.int32(0))
        return positive if node.maximum is None else np.minimum(positive, np.int32(node.maximum))

    def read(self, folder: ModelFolder, file: LayerFile, name: str, inputs: tuple[str, ...]) -> ReLU:
        """``inplace`` may have either value; ``maximum`` is optional."""
        input_type, output_type = file.mode(2)
        file.expect("compute_mode", output_type, DType.U31, "the output of ReLU:")
        file.flag("inplace")
        maximum = file.integer("maximum", 0, SUM_LIMIT) if file.has("maximum") else None
        return ReLU(name=name, inputs=inputs, input_type=input_type, maximum=maximum)

    def write(self, node: ReLU, output: LayerOutput, sources: Sequence[DType]) -> None:
        """Write ``maximum`` only if there is one."""
        output.text.add("compute_mode", f"{node.input_type}{DType.U31}")
        output.text.add("inplace", True)
        if node.maximum is not None:
            output.text.add("maximum", node.maximum)

    def converted(self, node: ReLU, input_type: DType | None, ratio: Fraction) -> ReLU:
        """The maximum is rounded, and limited to the largest sum, which no value of a valid graph exceeds."""
        if node.maximum is None:
            return node
        return replace(node, maximum=min(rounded(node.maximum * ratio), SUM_LIMIT))

    def is_homogeneous(self, node: ReLU) -> bool:
        """True without a maximum."""
        return node.maximum is None

    def real_unit(self, node: ReLU, types: Sequence[ValueType], units: Sequence[Array]) -> Array:
        """The unit of the input."""
        return units[0]

    def write_exact(self, node: ReLU, form: ExactForm) -> None:
        """Written as Relu or Clip, of integers in float32 or in int32."""
        source, result = node.inputs[0], form.source(node.name)
        maximum = node.maximum if node.maximum is not None else DType.U31.maximum
        if form.is_float[source]:
            if node.maximum is None or maximum > EXACT:
                form.node("Relu", [form.source(source)], result)
            else:
                bounds = [form.constant(f"{node.name}/low", 0), form.constant(f"{node.name}/high", maximum)]
                form.node("Clip", [form.source(source), *bounds], result)
            form.is_float[node.name] = True
            return
        label = f"{node.name}/clipped" if form.is_float[node.name] else result
        clipped = form.clip(form.source(source), 0, maximum, np.int32, label)
        if form.is_float[node.name]:
            form.cast(clipped, np.float32, result)

    def write_real(self, node: ReLU, form: RealForm) -> None:
        """Written as Relu or Clip."""
        form.relu(node.name, form.source(node.inputs[0]), node.maximum)

    def details(self, node: ReLU) -> Sequence[str]:
        """Show the maximum."""
        return () if node.maximum is None else (f"maximum {node.maximum}",)

    def examples(self, random: np.random.Generator) -> Iterator[Example[ReLU]]:
        """Cover both types of sums; a maximum that cuts, one that does not, and zero."""
        for input_type in SUMS:
            for maximum in (None, 0, SUM_MAGNITUDE // 3, SUM_LIMIT):
                node = ReLU(name="relu", inputs=("x",), input_type=input_type, maximum=maximum)
                yield Example(node, (sums(input_type, 3, 4, 2),))
        yield Example(ReLU(name="relu", inputs=("x",)), (sums(DType.U31, 7),))


register(ReLUOperation())
