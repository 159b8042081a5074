"""A regular selection of rows, columns and channels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nybble.graph.errors import GraphError
from nybble.graph.folder import ModelFolder
from nybble.graph.lines import LayerFile, joined
from nybble.graph.nodes import Node
from nybble.graph.ops.base import Example
from nybble.graph.ops.examples import activation
from nybble.graph.ops.forms import Form
from nybble.graph.ops.moving import Moves, MovingOperation
from nybble.graph.ops.reading import OnnxNode, OnnxValue
from nybble.graph.ops.registry import register
from nybble.graph.types import ACTIVATIONS, DType
from nybble.graph.value_type import MAX_EXTENT, ValueType


@dataclass(frozen=True, kw_only=True, eq=False)
class Slice(Node):
    """``x[:, start:stop:step]`` of channels, rows and columns, a number for each in this order."""

    input_type: DType
    start: tuple[int, int, int]
    stop: tuple[int, int, int]
    step: tuple[int, int, int] = (1, 1, 1)


class SliceOperation(MovingOperation[Slice]):
    """Strided slices of images."""

    node = Slice
    onnx_operators = ("Slice",)

    def result_shape(self, node: Slice, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """The size of each slice, which must lie within the input."""
        for start, stop, step, extent, what in zip(
            node.start, node.stop, node.step, shape, ("channels", "rows", "columns"), strict=True
        ):
            if not 0 <= start < stop <= extent or step < 1:
                raise GraphError(
                    f"{what} {start}:{stop}:{step} exceed {extent}",
                    node=node.name,
                    field="start",
                )
        channels, rows, columns = (len(part) for part in _parts(node))
        return channels, rows, columns

    def moves(self, node: Slice, shape: tuple[int, int, int]) -> Moves:
        """The indices of each slice."""
        channels, rows, columns = (tuple(part) for part in _parts(node))
        return Moves(rows, columns, (channels,))

    def resized(self, node: Slice, before: Sequence[ValueType], after: Sequence[ValueType]) -> Slice:
        """A slice up to the end still ends there. Refused if bounds could be counted from either end."""
        stops = list(node.stop)
        for axis, (old, new) in enumerate(zip(before[0].shape, after[0].shape, strict=True)):
            start, stop, step = node.start[axis], node.stop[axis], node.step[axis]
            if old == new:
                continue
            if start >= step or stop - 1 + step < old:
                raise GraphError(
                    f"takes {start}:{stop}:{step} of {old}, which does not determine what it takes of {new}",
                    node=node.name,
                )
            stops[axis] = new
        return replace(node, stop=(stops[0], stops[1], stops[2]))

    def attributes(self, node: Slice) -> Mapping[str, object]:
        """Write three numbers per axis."""
        return {"start": joined(node.start), "stop": joined(node.stop), "step": joined(node.step)}

    def read_attributes(self, folder: ModelFolder, file: LayerFile) -> Mapping[str, Any]:
        """Read three numbers per axis."""
        found = {}
        for key in ("start", "stop", "step"):
            words = file.words(key)
            if len(words) != 3 or not all(word.isdecimal() and len(word) < 10 for word in words):
                raise file.error(f"{key} takes three numbers", key)
            numbers = tuple(map(int, words))
            if max(numbers) > MAX_EXTENT:
                raise file.error(f"{key} must be in 0..{MAX_EXTENT}", key)
            found[key] = numbers
        return found

    def write_onnx(self, node: Slice, form: Form, source: str, output: str) -> str:
        """Written as Slice of the last three axes."""
        values = {"starts": node.start, "ends": node.stop, "axes": (1, 2, 3), "steps": node.step}
        constants = [form.constant(f"{node.name}/{label}", list(part), np.int64) for label, part in values.items()]
        return form.node("Slice", [source, *constants], output, name=node.name)

    def read_onnx(self, node: OnnxNode) -> OnnxValue | None:
        """Reads Slice of images with constant bounds and positive steps."""
        count = node.inputs(5)
        if node.is_constant(0) or count < 3 or not all(node.is_constant(index) for index in range(1, count)):
            return None
        source = node.activation(0)
        kind = node.type_of(source)
        given = [node.constant(index, "ends").reshape(-1) for index in range(1, count)]
        if len(kind.shape) != 3 or any(part.dtype.kind not in "iu" for part in given):
            return None
        starts, stops = given[0].tolist(), given[1].tolist()
        axes = given[2].tolist() if count > 3 else list(range(len(starts)))
        steps = given[3].tolist() if count > 4 else [1] * len(starts)
        if not len(starts) == len(stops) == len(axes) == len(steps) or min(steps, default=1) < 1:
            raise GraphError("only slices forwards are supported", node=node.name)
        parts = [range(extent) for extent in kind.shape]
        for start, stop, axis, step in zip(starts, stops, axes, steps, strict=True):
            place = int(axis) % 4 - 1
            if place < 0:
                raise GraphError("slices the batch", node=node.name)
            parts[place] = parts[place][int(start) : int(stop) : int(step)]
        if any(not part for part in parts):
            raise GraphError("takes nothing", node=node.name)
        channels, rows, columns = parts
        made = node.add(
            Slice(
                name=node.free(node.name),
                inputs=(source.name,),
                input_type=kind.dtype,
                start=(channels[0], rows[0], columns[0]),
                stop=(channels[-1] + 1, rows[-1] + 1, columns[-1] + 1),
                step=(channels.step, rows.step, columns.step),
            )
        )
        return OnnxValue(made, source.unit[list(channels)])

    def details(self, node: Slice) -> Sequence[str]:
        """Show ``rows 0:8:2`` and so on for all three axes."""
        names = ("channels", "rows", "columns")
        return [
            f"{name} {start}:{stop}:{step}"
            for name, start, stop, step in zip(names, node.start, node.stop, node.step, strict=True)
        ]

    def examples(self, random: np.random.Generator) -> Iterator[Example[Slice]]:
        """Cover every type: steps on every axis, and a single element."""
        for input_type in ACTIVATIONS:
            for start, stop, step in (
                ((0, 1, 0), (5, 6, 7), (1, 2, 2)),
                ((1, 0, 2), (4, 6, 5), (2, 1, 1)),
                ((4, 5, 6), (5, 6, 7), (1, 1, 1)),
            ):
                node = Slice(name="slice", inputs=("x",), input_type=input_type, start=start, stop=stop, step=step)
                yield Example(node, (activation(input_type, 5, 6, 7),))


def _parts(node: Slice) -> list[range]:
    return [range(*bounds) for bounds in zip(node.start, node.stop, node.step, strict=True)]


register(SliceOperation())
