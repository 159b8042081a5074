"""Images of another size, by nearest neighbours."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch.nn import functional

from nybble import graph
from nybble.graph import Pair
from nybble.graph.value_type import MAX_EXTENT
from nybble.quantize.ir import float_network, vocabulary
from nybble.quantize.ir.vocabulary import Result, Translation, Unsupported
from nybble.quantize.ops.examples import FloatExample, around
from nybble.quantize.ops.forms import Forms
from nybble.quantize.ops.moved import Move, MovedCodes
from nybble.quantize.ops.onnx_arguments import Value, constant_of, image_of
from nybble.quantize.ops.registry import register

forms = Forms()

#: What ONNX rounds coordinates by, on each grid.
_ROUNDING = {"asymmetric": "floor", "half_pixel": "round_prefer_ceil", "align_corners": "round_prefer_floor"}


class Resized(Move):
    """Another size."""


@forms.aten("upsample_nearest2d.vec", "upsample_nearest2d.default")
def _nearest(shape: tuple[int, ...], x: Translation, *sizes: Any) -> Result:
    return vocabulary.resize_nearest(x, Pair(shape[1], shape[2]), "asymmetric")


@forms.aten("_upsample_nearest_exact2d.vec", "_upsample_nearest_exact2d.default")
def _nearest_exact(shape: tuple[int, ...], x: Translation, *sizes: Any) -> Result:
    return vocabulary.resize_nearest(x, Pair(shape[1], shape[2]), "half_pixel")


@forms.onnx("Resize", integers=(3,), empty=(1, 2, 3))
def _onnx_resize(
    node: Any, value: Value, roi: Value | None = None, scales: Value | None = None, sizes: Value | None = None
) -> Result:
    return _resized(node, value, scales, sizes, node.get("coordinate_transformation_mode", "half_pixel"))


@forms.onnx("Upsample")
def _onnx_upsample(node: Any, value: Value, scales: Value | None = None) -> Result:
    return _resized(node, value, scales, None, "asymmetric")


def _resized(node: Any, value: Value, scales: Value | None, sizes: Value | None, grid: str) -> Result:
    x = image_of(value)
    size = _size(node, x.extents, scales, sizes)
    rounding = node.get("nearest_mode", "round_prefer_floor" if node.op == "Resize" else "floor")
    if node.get("mode", "nearest") != "nearest":
        raise Unsupported(f"only mode nearest is supported, not {node.get('mode')!r}")
    whole = all(made % extent == 0 for made, extent in zip(size, x.extents[1:], strict=True))
    if grid == "pytorch_half_pixel" or (whole and grid == "half_pixel"):
        # Rounding makes no difference where rows are repeated a whole number of times, on this grid.
        grid, rounding = "half_pixel", "round_prefer_ceil"
    if _ROUNDING.get(grid) != rounding:
        raise Unsupported(
            f"coordinates {grid} with {rounding} are not supported; "
            + ", ".join(f"{known} with {way}" for known, way in _ROUNDING.items())
        )
    return vocabulary.resize_nearest(x, size, grid)


def _size(node: Any, extents: Sequence[int], scales: Value | None, sizes: Value | None) -> Pair:
    if sizes is not None and constant_of(sizes, "its sizes").size:
        given = constant_of(sizes, "its sizes").reshape(-1).tolist()
        if len(given) != 4 or int(given[1]) != extents[0]:
            raise Unsupported("only rows and columns can be resized")
        rows, columns = (int(extent) for extent in given[2:])
    else:
        if scales is None or not constant_of(scales, "its scales").size:
            raise Unsupported("it has neither scales nor sizes")
        factors = constant_of(scales, "its scales").reshape(-1).tolist()
        if len(factors) != 4 or factors[:2] != [1, 1] or not all(math.isfinite(f) and f > 0 for f in factors):
            raise Unsupported("only rows and columns can be resized")
        rows, columns = (math.floor(extent * factor) for extent, factor in zip(extents[1:], factors[2:], strict=True))
        if (rows / extents[1], columns / extents[2]) != (factors[2], factors[3]):
            raise Unsupported("its scales do not give whole rows and columns; give the sizes")
    if not (1 <= rows <= MAX_EXTENT and 1 <= columns <= MAX_EXTENT):
        raise Unsupported(f"{rows} rows and {columns} columns are not a size of images")
    return Pair(rows, columns)


class Resizing(MovedCodes):
    """Nearest neighbours."""

    forms = forms
    ops = (float_network.Enlarge,)
    modules = (Resized,)
    nodes = (graph.ResizeNearest,)
    kind = graph.ResizeNearest

    def examples(self) -> Iterator[FloatExample]:
        """By a whole factor, and to a size."""
        yield around("twofold", lambda: lambda x: functional.interpolate(functional.relu(x), scale_factor=2))
        yield around("to a size", lambda: lambda x: functional.interpolate(x, size=(15, 18)))

    def attributes(self, op: float_network.Enlarge) -> Mapping[str, Any]:
        """The size and the grid."""
        return {"size": Pair(*op.shape[1:]), "grid": op.grid}

    def op_of(self, node: graph.ResizeNearest, shape: tuple[int, ...]) -> float_network.Enlarge:
        """The size is that of the result."""
        return float_network.Enlarge(name=node.name, inputs=(), shape=shape, grid=node.grid)


register(Resizing())
