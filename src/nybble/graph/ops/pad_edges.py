"""Pads images with rows and columns that repeat their own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nybble.graph.errors import GraphError
from nybble.graph.folder import ModelFolder
from nybble.graph.lines import LayerFile
from nybble.graph.nodes import Node, Padding
from nybble.graph.ops.base import Example
from nybble.graph.ops.examples import activation
from nybble.graph.ops.forms import ExactForm, Form
from nybble.graph.ops.moving import Moves, MovingOperation
from nybble.graph.ops.reading import OnnxNode, OnnxValue
from nybble.graph.ops.registry import register
from nybble.graph.ops.windows import sides, sides_text
from nybble.graph.types import ACTIVATIONS, DType

#: The padding: the image's rows mirrored at the outermost one, the outermost one repeated, or rows of the other side.
MODES = ("reflect", "edge", "wrap")
#: The version of ONNX operators since which Pad has the mode wrap.
_WRAP_SINCE = 19


@dataclass(frozen=True, kw_only=True, eq=False)
class PadEdges(Node):
    """Rows and columns around an image that repeat its own.

    For an image of ``n`` rows, a row ``y`` outside of the image equals this row: ``reflect``: ``-y`` before, ``2 * (n -
    1) - y`` behind; ``edge``: 0 before, ``n - 1`` behind; ``wrap``: ``y`` modulo ``n``. No side has more
    than ``n - 1`` rows (``reflect``), or ``n`` (``wrap``).
    """

    input_type: DType
    padding: Padding
    mode: str


def surrounding(mode: str, extent: int, before: int, after: int) -> tuple[int, ...]:
    """The row of the image for each row of the result."""
    places = range(-before, extent + after)
    if mode == "wrap":
        return tuple(place % extent for place in places)
    if mode == "edge":
        return tuple(min(max(place, 0), extent - 1) for place in places)
    return tuple(extent - 1 - abs(extent - 1 - abs(place)) for place in places)


def most_around(mode: str, extent: int) -> int | None:
    """The most rows that a side may have, ``None`` for no limit."""
    return {"reflect": extent - 1, "wrap": extent}.get(mode)


class PadEdgesOperation(MovingOperation[PadEdges]):
    """Padding by reflection, by the edges, or around."""

    node = PadEdges
    onnx_operators = ("Pad",)

    def result_shape(self, node: PadEdges, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """The result has more rows and columns."""
        if node.mode not in MODES:
            raise GraphError(f"mode {node.mode!r} is not one of {', '.join(MODES)}", node=node.name, field="mode")
        for pair, extent in zip(sides(node.padding), shape[1:], strict=True):
            most = most_around(node.mode, extent)
            if min(pair) < 0 or (most is not None and max(pair) > most):
                raise GraphError(
                    f"padding {tuple(node.padding)} by {node.mode} does not fit {shape[1]}x{shape[2]}",
                    node=node.name,
                    field="padding",
                )
        top, left, bottom, right = node.padding
        return shape[0], shape[1] + top + bottom, shape[2] + left + right

    def moves(self, node: PadEdges, shape: tuple[int, int, int]) -> Moves:
        """One row of the input per row of the result; columns likewise."""
        rows, columns = (
            surrounding(node.mode, extent, *pair) for pair, extent in zip(sides(node.padding), shape[1:], strict=True)
        )
        return Moves(rows, columns, (tuple(range(shape[0])),))

    def attributes(self, node: PadEdges) -> Mapping[str, object]:
        """Write the sides and the mode."""
        return {"padding": sides_text(node.padding), "mode": node.mode}

    def read_attributes(self, folder: ModelFolder, file: LayerFile) -> Mapping[str, Any]:
        """Read the sides and the mode."""
        mode = file.text("mode")
        if mode not in MODES:
            raise file.error(f"mode must be one of {', '.join(MODES)}", "mode")
        return {"padding": file.padding("padding"), "mode": mode}

    def write_exact(self, node: PadEdges, form: ExactForm) -> None:
        """Written as Gather of rows, then of columns."""
        channels, high, wide = form.values[node.inputs[0]].shape
        moves = self.moves(node, (channels, high, wide))
        rows = form.constant(f"{node.name}/rows", list(moves.rows), np.int64)
        columns = form.constant(f"{node.name}/columns", list(moves.columns), np.int64)
        taken = form.node("Gather", [form.source(node.inputs[0]), rows], f"{node.name}/taken", axis=2)
        form.node("Gather", [taken, columns], form.source(node.name), name=node.name, axis=3)

    def write_onnx(self, node: PadEdges, form: Form, source: str, output: str) -> str:
        """Written as Pad."""
        if node.mode == "wrap" and form.opset < _WRAP_SINCE:
            raise GraphError(
                f"ONNX has padding by wrapping since operators of version {_WRAP_SINCE}; export --exact",
                node=node.name,
                field="mode",
            )
        top, left, bottom, right = node.padding
        pads = form.constant(f"{node.name}/pads", [0, 0, top, left, 0, 0, bottom, right], np.int64)
        return form.node("Pad", [source, pads], output, name=node.name, mode=node.mode)

    def read_onnx(self, node: OnnxNode) -> OnnxValue | None:
        """Reads Pad in any mode but ``constant``."""
        mode = node.attribute("mode", b"constant").decode(errors="replace")
        if mode == "constant":
            return None
        source = node.activation(0)
        kind = node.type_of(source)
        axes = [0, 1, 2, 3]
        if node.inputs(4) == 4:
            axes = [int(axis) % 4 for axis in node.constant(3, "axes").reshape(-1)]
        given = [int(size) for size in node.constant(1, "sides").reshape(-1)]
        if mode not in MODES or len(kind.shape) != 3 or len(given) != 2 * len(axes):
            raise GraphError(f"only the modes constant, {', '.join(MODES)} of images are supported", node=node.name)
        before = dict(zip(axes, given[: len(axes)], strict=True))
        after = dict(zip(axes, given[len(axes) :], strict=True))
        if any(before.get(axis) or after.get(axis) for axis in (0, 1)) or min(given) < 0:
            raise GraphError("only rows and columns can be put around images", node=node.name)
        padding = Padding(before.get(2, 0), before.get(3, 0), after.get(2, 0), after.get(3, 0))
        made = PadEdges(
            name=node.free(node.name), inputs=(source.name,), input_type=kind.dtype, padding=padding, mode=mode
        )
        return OnnxValue(node.add(made), source.unit)

    def details(self, node: PadEdges) -> Sequence[str]:
        """Show the mode and the sides."""
        return (f"{node.mode} {sides_text(node.padding)}",)

    def examples(self, random: np.random.Generator) -> Iterator[Example[PadEdges]]:
        """Cover every type by reflection; every mode, on some sides."""
        for input_type in ACTIVATIONS:
            padding = Padding(1, 2, 1, 2)
            node = PadEdges(name="pad", inputs=("x",), input_type=input_type, padding=padding, mode="reflect")
            yield Example(node, (activation(input_type, 3, 3, 4),))
        for mode in MODES:
            for padding in (Padding(0, 3, 2, 0), Padding(2, 2, 0, 1)):
                node = PadEdges(name="pad", inputs=("x",), input_type=DType.S8, padding=padding, mode=mode)
                yield Example(node, (activation(DType.S8, 2, 3, 4),))


register(PadEdgesOperation())
