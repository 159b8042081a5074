"""Images of another size, by bilinear interpolation."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from nybble.graph.errors import GraphError
from nybble.graph.folder import ModelFolder
from nybble.graph.layer_output import LayerOutput
from nybble.graph.lines import LayerFile, joined
from nybble.graph.nodes import Node, Pair
from nybble.graph.ops.base import Example, Operation
from nybble.graph.ops.checks import check_input_type, image_shape
from nybble.graph.ops.examples import activation
from nybble.graph.ops.forms import EXACT, ExactForm, RealForm, write_rounded_mean
from nybble.graph.ops.reading import OnnxNode, OnnxValue
from nybble.graph.ops.registry import register
from nybble.graph.ops.resizing import resized_to, scaled_size, write_resize
from nybble.graph.ops.units import Unit
from nybble.graph.types import ACTIVATIONS, Array, DType
from nybble.graph.value_type import MAX_ELEMENTS, MAX_EXTENT, ValueType

if TYPE_CHECKING:
    from fractions import Fraction

#: The mappings of a coordinate of the result to the input, by their names in ONNX.
GRIDS = ("half_pixel", "align_corners", "asymmetric")


@dataclass(frozen=True, kw_only=True, eq=False)
class ResizeBilinear(Node):
    """The exact bilinear interpolation, rounded to the nearest integer, halves up. The type stays.

    With ``n`` rows in the input and ``m`` in the result, row ``y`` of the result lies at this coordinate, clipped to
    0..n - 1:

    ``half_pixel``: ``((2 * y + 1) * n - m) / (2 * m)``; ``align_corners``: ``y * (n - 1) / (m - 1)``, 0 where ``m`` is
    1; ``asymmetric``: ``y * n / m``. The same holds for columns.
    """

    input_type: DType
    size: Pair
    grid: str = "half_pixel"


@dataclass(frozen=True)
class Taps:
    """One axis: row ``y`` of the result is ``(high * weight + low * (divisor - weight)) / divisor``, of two input rows.

    Attributes
    ----------
    low, high, weight : tuple of int
        By row of the result.
    divisor : int
    """

    low: tuple[int, ...]
    high: tuple[int, ...]
    weight: tuple[int, ...]
    divisor: int


def taps(grid: str, extent: int, size: int) -> Taps:
    """The neighbouring input rows and weights for each row of a result, in lowest terms."""
    if grid == "half_pixel":
        divisor, places = 2 * size, [(2 * y + 1) * extent - size for y in range(size)]
    elif grid == "asymmetric":
        divisor, places = size, [y * extent for y in range(size)]
    else:
        divisor, places = max(1, size - 1), [y * (extent - 1) if size > 1 else 0 for y in range(size)]
    places = [min(max(place, 0), (extent - 1) * divisor) for place in places]
    common = math.gcd(divisor, *places)
    low = tuple(place // divisor for place in places)
    return Taps(
        low,
        tuple(min(row + 1, extent - 1) for row in low),
        tuple(place % divisor // common for place in places),
        divisor // common,
    )


class ResizeBilinearOperation(Operation[ResizeBilinear]):
    """Bilinear interpolation."""

    node = ResizeBilinear
    unit = Unit.INPUT
    format_version = 3
    onnx_operators = ("Resize",)

    def axes(self, node: ResizeBilinear, shape: Sequence[int]) -> tuple[Taps, Taps]:
        """Rows and columns, for an input of a shape (C, H, W)."""
        return taps(node.grid, shape[1], node.size.rows), taps(node.grid, shape[2], node.size.columns)

    def infer(self, node: ResizeBilinear, inputs: Sequence[ValueType]) -> ValueType:
        """The result has the input's type and magnitude."""
        (source,) = inputs
        check_input_type(node, source, node.input_type, ACTIVATIONS)
        channels, _, _ = image_shape(node, source)
        if node.grid not in GRIDS:
            raise GraphError(f"grid {node.grid!r} is not one of {', '.join(GRIDS)}", node=node.name, field="grid")
        if not all(1 <= extent <= MAX_EXTENT for extent in node.size):
            raise GraphError(f"size {tuple(node.size)} is not in 1..{MAX_EXTENT}", node=node.name, field="size")
        if channels * node.size.rows * node.size.columns > MAX_ELEMENTS:
            raise GraphError(f"its result would be {(channels, *node.size)}", node=node.name, field="size")
        return ValueType(source.dtype, (channels, *node.size), source.magnitude)

    def compute(self, node: ResizeBilinear, types: Sequence[ValueType], values: Sequence[Array]) -> Array:
        """Computes in 64 bits: two sums of two products, and one division."""
        sums, divisor = values[0].astype(np.int64), 1
        for axis, found in zip((2, 3), self.axes(node, types[0].shape), strict=True):
            weight = np.array(found.weight, np.int64).reshape(-1, *(1,) * (3 - axis))
            low, high = sums.take(found.low, axis), sums.take(found.high, axis)
            sums = low * (found.divisor - weight) + high * weight
            divisor *= found.divisor
        rounded: Array = (2 * sums + divisor) // (2 * divisor)
        return rounded.astype(types[0].dtype.storage)

    def read(self, folder: ModelFolder, file: LayerFile, name: str, inputs: tuple[str, ...]) -> ResizeBilinear:
        """Read the type of the input, the same type for the output, the size and the grid."""
        input_type, output_type = file.mode(2)
        file.expect("compute_mode", output_type, input_type, "the input's type")
        grid = file.text("grid")
        if grid not in GRIDS:
            raise file.error(f"grid must be one of {', '.join(GRIDS)}", "grid")
        return ResizeBilinear(name=name, inputs=inputs, input_type=input_type, size=file.pair("size"), grid=grid)

    def write(self, node: ResizeBilinear, output: LayerOutput, sources: Sequence[DType]) -> None:
        """Write the type twice, the size and the grid."""
        output.text.add("compute_mode", f"{node.input_type}{node.input_type}")
        output.text.add("size", joined(node.size))
        output.text.add("grid", node.grid)

    def resized(self, node: ResizeBilinear, before: Sequence[ValueType], after: Sequence[ValueType]) -> ResizeBilinear:
        """The factors stay the same."""
        return replace(node, size=scaled_size(node.name, node.size, before[0], after[0]))

    def converted(self, node: ResizeBilinear, input_type: DType | None, ratio: Fraction) -> ResizeBilinear:
        """Only the type changes."""
        return replace(node, input_type=input_type or node.input_type)

    def parts(self, node: ResizeBilinear, types: Sequence[ValueType]) -> int:
        """The product of both divisors."""
        rows, columns = self.axes(node, types[0].shape)
        return rows.divisor * columns.divisor

    def write_exact(self, node: ResizeBilinear, form: ExactForm) -> None:
        """Written as Gather of rows and of columns with integer weights, divided in int64."""
        source, name = form.values[node.inputs[0]], node.name
        divisor = self.parts(node, [source])
        dtype: type[np.float32 | np.int64] = np.float32 if source.magnitude * divisor <= EXACT else np.int64
        value = form.source(node.inputs[0])
        if dtype is np.int64:
            value = form.cast(value, np.int64, f"{name}/source")
        for axis, part, found in zip((2, 3), ("rows", "columns"), self.axes(node, source.shape), strict=True):
            weight = np.array(found.weight).reshape(-1, *(1,) * (3 - axis))
            ends = []
            for end, places, counted in (("low", found.low, found.divisor - weight), ("high", found.high, weight)):
                label = f"{name}/{part}/{end}"
                index = form.constant(f"{label}/index", list(places), np.int64)
                taken = form.node("Gather", [value, index], f"{label}/taken", axis=axis)
                ends.append(form.node("Mul", [taken, form.constant(f"{label}/weight", counted, dtype)], label))
            value = form.node("Add", ends, f"{name}/{part}")
        write_rounded_mean(form, name, value, np.array(divisor, np.int64), 1 << source.dtype.bits)

    def write_real(self, node: ResizeBilinear, form: RealForm) -> None:
        """Written as Resize of real numbers, then requantized."""
        source = form.source(node.inputs[0])
        made = write_resize(form, node, source, form.unstored(node.name), node.size, node.grid, {"mode": "linear"})
        # Results are multiples of 1 / divisor: less than half of that moves nothing but halves, which go up.
        form.store(node.name, made, upward=0.25 / self.parts(node, [form.values[node.inputs[0]]]))

    def onnx_hint(self, node: ResizeBilinear) -> Mapping[str, object]:
        """Keep the grid, which implies that halves are rounded up as they are here."""
        return {"grid": node.grid}

    def read_onnx(self, node: OnnxNode) -> OnnxValue | None:
        """Reads mode linear to a size, or by factors that give integer numbers of rows and columns."""
        if node.attribute("mode", b"nearest") != b"linear":
            return None
        source = node.activation(0)
        kind = node.type_of(source)
        grid = node.attribute("coordinate_transformation_mode", b"half_pixel").decode(errors="replace")
        size = resized_to(node, kind.shape)
        if (
            grid == "pytorch_half_pixel"
            and size is not None
            and all(made > 1 or extent == 1 for made, extent in zip(size, kind.shape[1:], strict=True))
        ):
            grid = "half_pixel"
        if size is None or grid not in GRIDS or node.attribute("antialias", 0):
            raise GraphError(
                f"mode linear is supported by sizes or factors that give whole sizes, without antialias, on the grids "
                f"{', '.join(GRIDS)}",
                node=node.name,
            )
        made = ResizeBilinear(
            name=node.free(node.name), inputs=(source.name,), input_type=kind.dtype, size=size, grid=grid
        )
        if not node.hint and self.parts(made, [kind]) % 2 == 0:
            node.rounded("halves", 1.0, "step: halves go up, in ONNX to the even neighbour")
        return OnnxValue(node.add(made), source.unit)

    def details(self, node: ResizeBilinear) -> Sequence[str]:
        """Show the grid; the type of the result has the size."""
        return (node.grid,)

    def examples(self, random: np.random.Generator) -> Iterator[Example[ResizeBilinear]]:
        """Cover every type by a factor of two; every grid, larger and smaller, from and to one row."""
        for input_type in ACTIVATIONS:
            node = ResizeBilinear(name="resize", inputs=("x",), input_type=input_type, size=Pair(6, 8))
            yield Example(node, (activation(input_type, 3, 3, 4),))
        for grid in GRIDS:
            for size in (Pair(7, 5), Pair(2, 1), Pair(3, 4), Pair(13, 16)):
                node = ResizeBilinear(name="resize", inputs=("x",), input_type=DType.S8, size=size, grid=grid)
                yield Example(node, (activation(DType.S8, 2, 3, 4),))
            node = ResizeBilinear(name="resize", inputs=("x",), input_type=DType.U8, size=Pair(4, 5), grid=grid)
            yield Example(node, (activation(DType.U8, 2, 1, 7),))


register(ResizeBilinearOperation())
