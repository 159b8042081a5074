"""An operation of another package that is said in terms of others: half of the positive sums."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from nybble.graph import DType, GraphError, Node, Quantize, ReLU, Tensor, ValueType
from nybble.graph.folder import ModelFolder
from nybble.graph.layer_output import LayerOutput
from nybble.graph.lines import LayerFile
from nybble.graph.ops import Example, Operation
from nybble.graph.types import Array


@dataclass(frozen=True, kw_only=True, eq=False)
class PositiveHalf(Node):
    """``max(0, x) / 2``, halves rounded up. s32 in, u31 out."""


class PositiveHalfOperation(Operation[PositiveHalf]):
    node = PositiveHalf

    def infer(self, node: PositiveHalf, inputs: Sequence[ValueType]) -> ValueType:
        (source,) = inputs
        if source.dtype is not DType.S32:
            raise GraphError(f"cannot halve {source.dtype}", node=node.name, field="inputs")
        return ValueType(DType.U31, source.shape, (source.magnitude + 1) // 2)

    def compute(self, node: PositiveHalf, types: Sequence[ValueType], values: Sequence[Array]) -> Array:
        halves: Array = (np.maximum(values[0], 0).astype(np.int64) + 1) // 2
        return halves.astype(np.int32)

    def read(self, folder: ModelFolder, file: LayerFile, name: str, inputs: tuple[str, ...]) -> PositiveHalf:
        file.expect("compute_mode", file.mode(2), (DType.S32, DType.U31), "the types")
        return PositiveHalf(name=name, inputs=inputs)

    def write(self, node: PositiveHalf, output: LayerOutput, sources: Sequence[DType]) -> None:
        output.text.add("compute_mode", f"{DType.S32}{DType.U31}")

    def expanded(self, node: PositiveHalf, inputs: Sequence[ValueType]) -> Sequence[Node]:
        positive = f"{node.name}_positive"
        ones = Tensor.from_array(DType.U16, np.ones(inputs[0].shape[0], np.uint16))
        return [
            ReLU(name=positive, inputs=node.inputs),
            Quantize(
                name=node.name, inputs=(positive,), input_type=DType.U31, output_type=DType.U31, factor=ones, shift=1
            ),
        ]

    def examples(self, random: np.random.Generator) -> Iterator[Example[PositiveHalf]]:
        yield Example(PositiveHalf(name="half", inputs=("x",)), (ValueType(DType.S32, (3, 4, 5), 9),))
        yield Example(PositiveHalf(name="half", inputs=("x",)), (ValueType(DType.S32, (2,), (1 << 31) - 1),))


operation = PositiveHalfOperation()
