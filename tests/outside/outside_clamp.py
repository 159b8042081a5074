"""An operation of another package: sums cut at both ends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nybble.graph import DType, GraphError, Node, ValueType
from nybble.graph.folder import ModelFolder
from nybble.graph.layer_output import LayerOutput
from nybble.graph.lines import LayerFile
from nybble.graph.ops import Example, Operation
from nybble.graph.ops.forms import ExactForm, RealForm
from nybble.graph.ops.reading import OnnxNode, OnnxValue
from nybble.graph.types import SUM_LIMIT, Array


@dataclass(frozen=True, kw_only=True, eq=False)
class Clamp(Node):
    """``min(max(x, low), high)`` of s32 sums."""

    low: int
    high: int


class ClampOperation(Operation[Clamp]):
    node = Clamp

    def infer(self, node: Clamp, inputs: Sequence[ValueType]) -> ValueType:
        (source,) = inputs
        if source.dtype is not DType.S32:
            raise GraphError(f"cannot clamp {source.dtype}", node=node.name, field="inputs")
        if not -SUM_LIMIT <= node.low <= node.high <= SUM_LIMIT:
            raise GraphError(f"low={node.low} and high={node.high} are not a range", node=node.name, field="low")
        # All of it may lie beside what the input reaches.
        magnitude = max(abs(node.low), abs(node.high))
        return ValueType(DType.S32, source.shape, magnitude)

    def compute(self, node: Clamp, types: Sequence[ValueType], values: Sequence[Array]) -> Array:
        return np.clip(values[0], np.int32(node.low), np.int32(node.high))

    def read(self, folder: ModelFolder, file: LayerFile, name: str, inputs: tuple[str, ...]) -> Clamp:
        file.expect("compute_mode", file.mode(2), (DType.S32, DType.S32), "both of")
        low, high = (file.integer(key, -SUM_LIMIT, SUM_LIMIT) for key in ("low", "high"))
        return Clamp(name=name, inputs=inputs, low=low, high=high)

    def write(self, node: Clamp, output: LayerOutput, sources: Sequence[DType]) -> None:
        output.text.add("compute_mode", f"{DType.S32}{DType.S32}")
        output.text.add("low", node.low)
        output.text.add("high", node.high)

    def real_unit(self, node: Clamp, types: Sequence[ValueType], units: Sequence[Array]) -> Array:
        return units[0]

    def write_exact(self, node: Clamp, form: ExactForm) -> None:
        kind = np.float32 if form.is_float[node.inputs[0]] and form.is_float[node.name] else np.int32
        clipped = form.clip(
            form.converted(node.inputs[0], kind, node.name), node.low, node.high, kind, f"{node.name}/clipped"
        )
        form.cast(clipped, np.float32 if form.is_float[node.name] else np.int32, form.source(node.name))

    def write_real(self, node: Clamp, form: RealForm) -> None:
        unit = form.units[node.name]
        form.clip(form.source(node.inputs[0]), node.low * unit, node.high * unit, node.name)

    onnx_operators = ("Clip",)

    def onnx_hint(self, node: Clamp) -> Mapping[str, object]:
        # float32 does not hold all bounds, and other Clips are not this operation.
        return {"clamp": [node.low, node.high]}

    def read_onnx(self, node: OnnxNode) -> OnnxValue | None:
        if "clamp" not in node.hint:
            return None
        bounds = node.hint["clamp"]
        if not isinstance(bounds, list) or [type(bound) for bound in bounds] != [int, int]:
            raise GraphError("its bounds in the metadata are not two integers", node=node.name)
        source = node.sums(0)
        made = Clamp(name=node.free(node.name), inputs=(source.name,), low=bounds[0], high=bounds[1])
        return OnnxValue(node.add(made), source.unit)

    def examples(self, random: np.random.Generator) -> Iterator[Example[Clamp]]:
        for low, high in ((-100, 100), (5, 5), (-SUM_LIMIT, SUM_LIMIT)):
            source = ValueType(DType.S32, (2, 3, 4), 1000)
            yield Example(Clamp(name="clamp", inputs=("x",), low=low, high=high), (source,))


operation = ClampOperation()
