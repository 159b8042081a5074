"""An operation of another package that means one ONNX operator: Abs, which nybble itself does not read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from nybble.graph import DType, GraphError, Node, ValueType
from nybble.graph.folder import ModelFolder
from nybble.graph.layer_output import LayerOutput
from nybble.graph.lines import LayerFile
from nybble.graph.ops import Example, Operation
from nybble.graph.ops.forms import ExactForm, RealForm
from nybble.graph.ops.reading import OnnxNode, OnnxValue
from nybble.graph.types import Array


@dataclass(frozen=True, kw_only=True, eq=False)
class Absolute(Node):
    """``|x|``. s32 in, u31 out."""


class AbsoluteOperation(Operation[Absolute]):
    node = Absolute
    onnx_operators = ("Abs",)

    def infer(self, node: Absolute, inputs: Sequence[ValueType]) -> ValueType:
        (source,) = inputs
        if source.dtype is not DType.S32:
            raise GraphError(f"reads s32, not {source.dtype}", node=node.name, field="inputs")
        return ValueType(DType.U31, source.shape, source.magnitude)

    def compute(self, node: Absolute, types: Sequence[ValueType], values: Sequence[Array]) -> Array:
        return np.abs(values[0])

    def read(self, folder: ModelFolder, file: LayerFile, name: str, inputs: tuple[str, ...]) -> Absolute:
        file.expect("compute_mode", file.mode(2), (DType.S32, DType.U31), "the types")
        return Absolute(name=name, inputs=inputs)

    def write(self, node: Absolute, output: LayerOutput, sources: Sequence[DType]) -> None:
        output.text.add("compute_mode", f"{DType.S32}{DType.U31}")

    def real_unit(self, node: Absolute, types: Sequence[ValueType], units: Sequence[Array]) -> Array:
        return units[0]

    def write_exact(self, node: Absolute, form: ExactForm) -> None:
        form.node("Abs", [form.source(node.inputs[0])], form.source(node.name))

    def write_real(self, node: Absolute, form: RealForm) -> None:
        form.node("Abs", [form.source(node.inputs[0])], node.name)

    def read_onnx(self, node: OnnxNode) -> OnnxValue:
        source = node.sums(0)
        made = Absolute(name=node.free(node.name), inputs=(source.name,))
        return OnnxValue(node.add(made), source.unit)

    def examples(self, random: np.random.Generator) -> Iterator[Example[Absolute]]:
        for shape, magnitude in (((2, 3, 4), 1000), ((5,), (1 << 31) - 1)):
            yield Example(Absolute(name="absolute", inputs=("x",)), (ValueType(DType.S32, shape, magnitude),))


operation = AbsoluteOperation()
