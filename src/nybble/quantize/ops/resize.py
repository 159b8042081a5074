"""Images of another size, by nearest neighbours and by bilinear interpolation."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from nybble import graph
from nybble.graph import Pair
from nybble.graph.ops.resize_bilinear import GRIDS
from nybble.graph.value_type import MAX_EXTENT
from nybble.quantize.fake.operation import FakeOperation
from nybble.quantize.fake.quantizers import ActivationQuantizer
from nybble.quantize.ir import float_network, vocabulary
from nybble.quantize.ir.vocabulary import Result, Translation, Unsupported
from nybble.quantize.ops.base import FloatOperation
from nybble.quantize.ops.examples import FloatExample, around
from nybble.quantize.ops.forms import Forms
from nybble.quantize.ops.moved import Move, MovedCodes
from nybble.quantize.ops.onnx_arguments import Value, constant_of, image_of
from nybble.quantize.ops.registry import register

if TYPE_CHECKING:
    from nybble.quantize.fake.network import Step
    from nybble.quantize.lower.conversion import Conversion
    from nybble.quantize.ops.restoration import Restoration
    from nybble.quantize.prepare.preparation import Preparation

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


@forms.aten("upsample_bilinear2d.vec", "upsample_bilinear2d.default")
def _bilinear(shape: tuple[int, ...], x: Translation, size: Any, align_corners: bool, *scales: Any) -> Result:
    return vocabulary.resize_bilinear(x, Pair(shape[1], shape[2]), "align_corners" if align_corners else "half_pixel")


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
    mode = node.get("mode", "nearest")
    if node.get("antialias", 0) or node.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise Unsupported("neither antialias nor keep_aspect_ratio_policy is supported")
    if mode == "linear":
        single = any(made == 1 < extent for made, extent in zip(size, x.extents[1:], strict=True))
        if grid == "pytorch_half_pixel" and not single:
            grid = "half_pixel"
        if grid not in GRIDS:
            raise Unsupported(f"coordinates {grid} are not supported in mode linear; {', '.join(GRIDS)} are")
        return vocabulary.resize_bilinear(x, size, grid)
    if mode != "nearest":
        raise Unsupported(f"only the modes nearest and linear are supported, not {mode!r}")
    rounding = node.get("nearest_mode", "round_prefer_floor" if node.op == "Resize" else "floor")
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
    """Rows and columns of the result."""
    numbers = None if sizes is None else constant_of(sizes, "its sizes").reshape(-1).tolist()
    factors = [] if numbers or scales is None else constant_of(scales, "its scales").reshape(-1).tolist()
    given = numbers or factors
    axes = [int(axis) % 4 for axis in node.get("axes", [0, 1, 2, 3])]
    if len(given) != len(axes) or len(set(axes)) != len(axes):
        raise Unsupported("it has neither scales nor sizes of its axes")
    whole = [node.batch, *extents]
    for axis, number in zip(axes, given, strict=True):
        made = number if numbers else math.floor(whole[axis] * number) if math.isfinite(number) and number > 0 else 0
        if not numbers and made and made / whole[axis] != number:
            raise Unsupported("its scales do not give whole rows and columns; give the sizes")
        if axis < 2 and made not in (whole[axis], 1 - axis):
            raise Unsupported("only rows and columns can be resized")
        if axis > 1:
            whole[axis] = int(made)
    rows, columns = whole[2:]
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
        """Cover an integer factor, and a size."""
        yield around("twofold", lambda: lambda x: functional.interpolate(functional.relu(x), scale_factor=2))
        yield around("to a size", lambda: lambda x: functional.interpolate(x, size=(15, 18)))

    def attributes(self, op: float_network.Enlarge) -> Mapping[str, Any]:
        """The size and the grid of the node."""
        return {"size": Pair(*op.shape[1:]), "grid": op.grid}

    def op_of(self, node: graph.ResizeNearest, shape: tuple[int, ...]) -> float_network.Enlarge:
        """The operation with the size of the result."""
        return float_network.Enlarge(name=node.name, inputs=(), shape=shape, grid=node.grid)


class Interpolated(FakeOperation):
    """Bilinear interpolation of codes, rounded to codes of the same step, halves up.

    Parameters
    ----------
    quantizer : ActivationQuantizer
        Whose codes it reads.
    op : Interpolate
    """

    def __init__(self, quantizer: ActivationQuantizer, op: float_network.Interpolate) -> None:
        super().__init__()
        self.op = op
        # In a tuple, so that it is not registered twice: the network owns it.
        self._reads = (quantizer,)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, H', W')."""
        y = self.op(x)
        if self.mode != "quantize":
            return y
        with torch.no_grad():
            step = self._reads[0].step()
            # Whole numbers in float64: exact.
            sums, divisor = self.op.sums(torch.round(x.double() / step))
            rounded = (torch.floor((2 * sums + divisor) / (2 * divisor)) * step).to(x.dtype)
        return y + (rounded - y).detach()


class Interpolation(FloatOperation):
    """Bilinear."""

    ops = (float_network.Interpolate,)
    modules = (Interpolated,)
    nodes = (graph.ResizeBilinear,)

    def examples(self) -> Iterator[FloatExample]:
        """Cover each grid of PyTorch, larger and smaller; with a ReLU behind."""
        for corners in (False, True):
            for size in ((20, 18), (15, 7)):
                yield around(
                    f"corners {corners}, {size}",
                    lambda size=size, corners=corners: (
                        lambda x: functional.interpolate(  # type: ignore[misc]
                            x, size=size, mode="bilinear", align_corners=corners
                        )
                    ),
                )
        yield around(
            "relu behind",
            lambda: lambda x: functional.relu(functional.interpolate(x, scale_factor=2, mode="bilinear")),
        )

    def prepare(self, op: float_network.Interpolate, preparation: Preparation) -> None:
        """The operation reads codes."""
        preparation.on_codes(op, Interpolated(preparation.coded(op.inputs[0])[1], op))

    def convert(self, module: Interpolated, step: Step, conversion: Conversion) -> None:
        """The type and the unit stay the same."""
        (source,) = step.inputs
        conversion.units[step.name] = conversion.units[source]
        reads = conversion.type_of(source).dtype
        size = Pair(*module.op.shape[1:])
        conversion.append(step, graph.ResizeBilinear, input_type=reads, size=size, grid=module.op.grid)

    def restore(self, node: graph.ResizeBilinear, restoration: Restoration) -> None:
        """The quantizer of the input is kept."""
        quantizer = restoration.quantizers[node.name] = restoration.quantizers[node.inputs[0]]
        shape = restoration.graph.values[node.name].shape
        op = float_network.Interpolate(name=node.name, inputs=(), shape=shape, grid=node.grid)
        restoration.append(node, Interpolated(quantizer, op), node.inputs[0])

    def copied_from(self, node: graph.ResizeBilinear, restoration: Restoration) -> str | None:
        """Interpolated values have the same step as the input."""
        return node.inputs[0]


register(Resizing())
register(Interpolation())
