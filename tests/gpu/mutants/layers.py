"""Layers on which changed kernels must show: rows, columns, strides, paddings and dilations all differ."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from nybble.backends.cuda.proof.cases import moved_network
from nybble.graph import Add, Conv2d, DType, Graph, Input, MaxPool2d, Padding, Pair, Quantize, ReLU, Tensor
from nybble.graph.types import Array


class Layer(NamedTuple):
    """A network of one convolution, perhaps with a pool or a projection, an input, and the kernel that runs it.

    Or one of several kernels, all of which are defaults: then ``kernel`` is empty, and ``several`` names them.
    """

    graph: Graph
    x: Array
    kernel: str
    several: tuple[str, ...] = ()

    @property
    def choices(self) -> dict[str, str]:
        """Kernels to use. A stem is no choice: it is what the planner gives a first convolution."""
        return {} if self.several or self.kernel.startswith("stem_") else {self.graph.outputs[0]: self.kernel}

    @property
    def entries(self) -> tuple[str, ...]:
        """What ``kernels.h`` needs for it."""
        if self.several:
            return self.several
        if self.kernel.startswith("join_"):
            types, tile = self.kernel.removeprefix("join_").split("_")
            numbers = tile.removeprefix("m").replace("n", ", ").replace("k", ", ")
            return (
                f"NYBBLE_GPU_JOIN({types}, {numbers})",
                "NYBBLE_GPU_LAYER(input, InputParams, read_input)",
            )
        if self.kernel.startswith("stem_"):
            return (f"NYBBLE_GPU_STEM({self.kernel.removeprefix('stem_')})",)
        types, tile, taps, rule = self.kernel.removeprefix("conv_").split("_")
        rows, rest = tile.removeprefix("m").split("n")
        columns, depth = rest.split("k")
        return (
            f"NYBBLE_GPU_CONV({types}, {rows}, {columns}, {depth}, {taps}, {rule})",
            "NYBBLE_GPU_LAYER(input, InputParams, read_input)",
        )


def _layer(
    kernel: str,
    target: DType | None,
    shape: tuple[int, int, int],
    outputs: int,
    size: Pair,
    shift: int = 0,
    relu: bool = False,
    wide: bool = False,
    **geometry: Any,
) -> Layer:
    random = np.random.default_rng(outputs)
    conv = Conv2d(
        name="conv",
        inputs=("x",),
        input_type=DType.U4,
        weight=Tensor.from_array(DType.S4, random.integers(-8, 8, (outputs, shape[0], *size))),
        bias=Tensor.from_array(DType.S32, random.integers(-999, 999, outputs)),
        **geometry,
    )
    nodes = [conv, *([ReLU(name="relu", inputs=("conv",))] if relu else [])]
    if target is not None:
        factors = random.integers(1, 9, outputs)
        if wide:
            # Small factors have ties; one large one takes the layer beyond 32 bits.
            factors[0] = 1 << 31
        factor = Tensor.from_array(DType.U32, factors)
        last = nodes[-1].name
        declared = DType.U31 if relu else DType.S32
        nodes.append(
            Quantize(name="codes", inputs=(last,), input_type=declared, output_type=target, factor=factor, shift=shift)
        )
    entry = Input(name="x", dtype=DType.U4, shape=shape)
    x = random.integers(0, 16, (1, *shape)).astype(np.uint8)
    return Layer(Graph([entry], nodes, [nodes[-1].name]), x, kernel)


def _stem() -> Layer:
    """A first convolution and a pool; all extents, strides and paddings differ, and weights have eight columns."""
    random = np.random.default_rng(4)
    conv = Conv2d(
        name="conv",
        inputs=("x",),
        input_type=DType.S8,
        weight=Tensor.from_array(DType.S8, random.integers(-128, 128, (75, 3, 5, 8))),
        bias=Tensor.from_array(DType.S32, random.integers(-999, 999, 75)),
        stride=Pair(1, 2),
        padding=Padding(2, 3, 1, 4),
        dilation=Pair(2, 1),
    )
    factor = Tensor.from_array(DType.U32, random.integers(1, 9, 75))
    codes = Quantize(
        name="codes", inputs=("conv",), input_type=DType.S32, output_type=DType.S8, factor=factor, shift=10
    )
    pool = MaxPool2d(
        name="pool",
        inputs=("codes",),
        input_type=DType.S8,
        kernel_size=Pair(2, 3),
        stride=Pair(1, 2),
        padding=Padding(1, 1, 1, 0),
    )
    entry = Input(name="x", dtype=DType.S8, shape=(3, 41, 61))
    x = random.integers(-128, 128, (2, *entry.shape)).astype(np.int8)
    return Layer(Graph([entry], [conv, codes, pool], ["pool"]), x, "stem_s8s8")


def _added(kernel: str, dtype: DType, most: int) -> Layer:
    """The sums of two convolutions, one of them rescaled from codes; a kernel for both, or for one of them."""
    random = np.random.default_rng(5)
    outputs, shape = 75, (300, 9, 19)

    def factors(count: int) -> Tensor:
        return Tensor.from_array(DType.U32, random.integers(count // 8, count, outputs))

    def conv(name: str) -> Conv2d:
        weight = random.integers(-7, 8, (outputs, shape[0], 1, 1))
        bias = Tensor.from_array(DType.S32, random.integers(-2999, 2999, outputs))
        tensor = Tensor.from_array(DType.S4, weight)
        return Conv2d(name=name, inputs=("x",), input_type=DType.U4, weight=tensor, bias=bias, stride=Pair(2, 1))

    s32 = DType.S32
    nodes = [
        conv("side"),
        Quantize(name="codes", inputs=("side",), input_type=s32, output_type=dtype, factor=factors(most), shift=14),
        Quantize(name="again", inputs=("codes",), input_type=dtype, output_type=s32, factor=factors(60), shift=3),
        conv("conv"),
        Add(name="add", inputs=("conv", "again")),
        Quantize(name="sums", inputs=("add",), input_type=s32, output_type=DType.U4, factor=factors(60), shift=13),
    ]
    x = random.integers(0, 16, (1, *shape)).astype(np.uint8)
    return Layer(Graph([Input(name="x", dtype=DType.U4, shape=shape)], nodes, ["sums"]), x, kernel)


def _several() -> Layer:
    """The bundle's network of moves, interpolation, PReLU and rescaled sums."""
    graph = moved_network()
    x = np.random.default_rng(6).integers(0, 16, (2, *graph.inputs[0].shape)).astype(np.uint8)
    layers = {
        "input": ("InputParams", "read_input"),
        "move": ("MoveParams", "move_codes"),
        "bilinear": ("BilinearParams", "interpolate"),
        "pool": ("PoolParams", "pool"),
        "point": ("PointParams", "compute_points"),
    }
    return Layer(
        graph,
        x,
        "",
        (
            "NYBBLE_GPU_CONV(u4s4, 64, 64, 32, one, any)",
            "NYBBLE_GPU_CONV(u4s4, 128, 64, 32, one, any)",
            *(f"NYBBLE_GPU_LAYER({name}, {params}, {function})" for name, (params, function) in layers.items()),
        ),
    )


LAYERS = {
    "stem": _stem(),
    "join": _added("join_u4s4_m64n64k32", DType.S8, 3000),
    "added": _added("conv_u4s4_m64n64k32_one_codes", DType.U4, 3000),
    "several": _several(),
    "taps": _layer(
        "conv_u4s4_m64n64k32_any_any",
        None,
        (70, 9, 7),
        70,
        Pair(3, 2),
        relu=True,
        stride=Pair(1, 2),
        padding=Padding(2, 1, 0, 1),
        dilation=Pair(2, 1),
    ),
    "codes": _layer(
        "conv_u4s4_m64n64k32_any_codes", DType.U4, (130, 5, 13), 140, Pair(2, 3), 9, padding=Padding(1, 0, 1, 1)
    ),
    "narrow": _layer("conv_u4s4_m64n64k32_one_any", DType.S8, (130, 5, 13), 140, Pair(1, 1), 6),
    "bytes": _layer("conv_u4s4_m128n64k32_one_any", DType.S8, (200, 5, 26), 20, Pair(1, 1), 6, wide=True),
    "end": _layer("conv_u4s4_m128n64k32_one_any", None, (200, 1, 129), 20, Pair(1, 1)),
}
