"""Images of another size, by nearest neighbours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nybble.graph.errors import GraphError
from nybble.graph.folder import ModelFolder
from nybble.graph.lines import LayerFile, joined
from nybble.graph.nodes import Node, Pair
from nybble.graph.ops.base import Example
from nybble.graph.ops.examples import activation
from nybble.graph.ops.forms import ExactForm, Form
from nybble.graph.ops.moving import Moves, MovingOperation
from nybble.graph.ops.reading import OnnxNode, OnnxValue
from nybble.graph.ops.registry import register
from nybble.graph.ops.resizing import resized_to, scaled_size, write_resize
from nybble.graph.types import ACTIVATIONS, DType
from nybble.graph.value_type import MAX_EXTENT, ValueType

#: The grids by their names in ONNX (how a coordinate of the result is mapped to the input), and their roundings.
_ROUNDING = {"asymmetric": "floor", "half_pixel": "round_prefer_ceil", "align_corners": "round_prefer_floor"}


@dataclass(frozen=True, kw_only=True, eq=False)
class ResizeNearest(Node):
    """Each row of the result is a row of the input, and so are columns.

    With ``n`` rows in the input and ``m`` in the result, row ``y`` of the result is this row of the input:

    ``asymmetric``: ``y * n // m``, as PyTorch's mode ``nearest``; ``half_pixel``: ``(2 * y + 1) * n // (2 * m)``, as
    its ``nearest-exact``; ``align_corners``: ``y * (n - 1) / (m - 1)`` rounded, halves down.
    """

    input_type: DType
    size: Pair
    grid: str = "asymmetric"


def nearest(grid: str, extent: int, size: int) -> tuple[int, ...]:
    """The row of the input for each row of the result."""
    if grid == "asymmetric":
        return tuple(y * extent // size for y in range(size))
    if grid == "half_pixel":
        return tuple((2 * y + 1) * extent // (2 * size) for y in range(size))
    if size == 1:
        return (0,)
    return tuple(-(-(2 * y * (extent - 1) - (size - 1)) // (2 * (size - 1))) for y in range(size))


class ResizeNearestOperation(MovingOperation[ResizeNearest]):
    """Nearest neighbours."""

    node = ResizeNearest
    onnx_operators = ("Resize",)

    def result_shape(self, node: ResizeNearest, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """The rows and columns of the node."""
        if node.grid not in _ROUNDING:
            raise GraphError(f"grid {node.grid!r} is not one of {', '.join(_ROUNDING)}", node=node.name, field="grid")
        if not all(1 <= extent <= MAX_EXTENT for extent in node.size):
            raise GraphError(f"size {tuple(node.size)} is not in 1..{MAX_EXTENT}", node=node.name, field="size")
        return shape[0], node.size.rows, node.size.columns

    def moves(self, node: ResizeNearest, shape: tuple[int, int, int]) -> Moves:
        """One row of the input per row of the result; columns likewise."""
        rows = nearest(node.grid, shape[1], node.size.rows)
        columns = nearest(node.grid, shape[2], node.size.columns)
        return Moves(rows, columns, (tuple(range(shape[0])),))

    def resized(self, node: ResizeNearest, before: Sequence[ValueType], after: Sequence[ValueType]) -> ResizeNearest:
        """The factors stay the same."""
        return replace(node, size=scaled_size(node.name, node.size, before[0], after[0]))

    def attributes(self, node: ResizeNearest) -> Mapping[str, object]:
        """Write the size and the grid."""
        return {"size": joined(node.size), "grid": node.grid}

    def read_attributes(self, folder: ModelFolder, file: LayerFile) -> Mapping[str, Any]:
        """Read the size and the grid."""
        grid = file.text("grid")
        if grid not in _ROUNDING:
            raise file.error(f"grid must be one of {', '.join(_ROUNDING)}", "grid")
        return {"size": file.pair("size"), "grid": grid}

    def write_exact(self, node: ResizeNearest, form: ExactForm) -> None:
        """Written as Gather of rows, then of columns, since runtimes round coordinates differently."""
        shape = form.values[node.inputs[0]].shape
        moves = self.moves(node, (shape[0], shape[1], shape[2]))
        rows = form.constant(f"{node.name}/rows", list(moves.rows), np.int64)
        columns = form.constant(f"{node.name}/columns", list(moves.columns), np.int64)
        taken = form.node("Gather", [form.source(node.inputs[0]), rows], f"{node.name}/taken", axis=2)
        form.node("Gather", [taken, columns], form.source(node.name), name=node.name, axis=3)

    def write_onnx(self, node: ResizeNearest, form: Form, source: str, output: str) -> str:
        """Written as Resize of rows and columns to a size, for any batch."""
        mode = {"mode": "nearest", "nearest_mode": _ROUNDING[node.grid]}
        return write_resize(form, node, source, output, node.size, node.grid, mode)

    def read_onnx(self, node: OnnxNode) -> OnnxValue | None:
        """Reads mode nearest to a size, or by integer factors, with the rounding of a known grid."""
        if node.attribute("mode", b"nearest") != b"nearest":
            return None
        source = node.activation(0)
        kind = node.type_of(source)
        grid = node.attribute("coordinate_transformation_mode", b"half_pixel").decode(errors="replace")
        rounding = node.attribute("nearest_mode", b"round_prefer_floor").decode(errors="replace")
        size = resized_to(node, kind.shape)
        if size is None or _ROUNDING.get(grid) != rounding:
            raise GraphError(
                "only mode nearest by sizes or whole factors is supported: asymmetric with floor, half_pixel with "
                "round_prefer_ceil, align_corners with round_prefer_floor",
                node=node.name,
            )
        made = node.add(
            ResizeNearest(name=node.free(node.name), inputs=(source.name,), input_type=kind.dtype, size=size, grid=grid)
        )
        return OnnxValue(made, source.unit)

    def details(self, node: ResizeNearest) -> Sequence[str]:
        """Show the grid; the type of the result has the size."""
        return (node.grid,)

    def examples(self, random: np.random.Generator) -> Iterator[Example[ResizeNearest]]:
        """Cover every type by whole factors; every grid, larger and smaller."""
        for input_type in ACTIVATIONS:
            node = ResizeNearest(name="resize", inputs=("x",), input_type=input_type, size=Pair(6, 12))
            yield Example(node, (activation(input_type, 3, 3, 4),))
        for grid in _ROUNDING:
            for size in (Pair(7, 5), Pair(2, 1), Pair(3, 4)):
                node = ResizeNearest(name="resize", inputs=("x",), input_type=DType.S8, size=size, grid=grid)
                yield Example(node, (activation(DType.S8, 2, 3, 4),))


register(ResizeNearestOperation())
