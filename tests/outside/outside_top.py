"""An operation of another package with a step of its own on the CPU backend: sums cut to 0 and a top."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from nybble import _native
from nybble.backends.cpu.builder import Builder
from nybble.backends.cpu.epilogue import set_epilogue
from nybble.backends.cpu.kinds import StepKind
from nybble.graph import DType, GraphError, Node, ValueType
from nybble.graph.folder import ModelFolder
from nybble.graph.layer_output import LayerOutput
from nybble.graph.lines import LayerFile
from nybble.graph.ops import Example, Operation
from nybble.graph.types import SUM_LIMIT, Array
from nybble.lower import Channels, Lowering, Step


@dataclass(frozen=True, kw_only=True, eq=False)
class Top(Node):
    """``min(max(x, 0), high)`` of s32 sums, u31."""

    high: int


class TopOperation(Operation[Top]):
    node = Top

    def infer(self, node: Top, inputs: Sequence[ValueType]) -> ValueType:
        (source,) = inputs
        if source.dtype is not DType.S32:
            raise GraphError(f"cannot cut {source.dtype}", node=node.name, field="inputs")
        return ValueType(DType.U31, source.shape, min(node.high, source.magnitude))

    def compute(self, node: Top, types: Sequence[ValueType], values: Sequence[Array]) -> Array:
        return np.clip(values[0], np.int32(0), np.int32(node.high))

    def read(self, folder: ModelFolder, file: LayerFile, name: str, inputs: tuple[str, ...]) -> Top:
        file.expect("compute_mode", file.mode(2), (DType.S32, DType.U31), "the types")
        return Top(name=name, inputs=inputs, high=file.integer("high", 0, SUM_LIMIT))

    def write(self, node: Top, output: LayerOutput, sources: Sequence[DType]) -> None:
        output.text.add("compute_mode", f"{DType.S32}{DType.U31}")
        output.text.add("high", node.high)

    def examples(self, random: np.random.Generator) -> Iterator[Example[Top]]:
        yield Example(Top(name="top", inputs=("x",), high=7), (ValueType(DType.S32, (2, 3, 4), 1000),))


class TopLowering(Lowering[Top]):
    node = Top
    kind = "top"
    channels = Channels.KEPT
    epilogue = ("quantize", "table")

    def begin(self, node: Top, step: Step) -> None:
        step.body = node.high


class TopKind(StepKind):
    kind = "top"

    def why_not(self, step: Step) -> str | None:
        return "the engine cuts images only" if len(step.input.shape) != 3 else None

    def add(self, step: Step, builder: Builder) -> None:
        spec = _native.PointSpec()
        spec.input = builder.ids[step.source]
        set_epilogue(spec, step, builder.order(step.result))
        spec.relu, spec.relu_maximum = True, step.body_as(int)
        spec.output, spec.output_lists = builder.output(step)
        builder.program.add_point(spec)


operation, lowering, step_kind = TopOperation(), TopLowering(), TopKind()
