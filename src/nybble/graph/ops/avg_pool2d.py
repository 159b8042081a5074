"""Rounded average of each window."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from nybble.graph.errors import GraphError
from nybble.graph.folder import ModelFolder
from nybble.graph.layer_output import LayerOutput
from nybble.graph.lines import LayerFile
from nybble.graph.nodes import Node, Padding, Pair
from nybble.graph.ops.base import Example, Operation
from nybble.graph.ops.checks import check_input_type, image_shape
from nybble.graph.ops.examples import activation
from nybble.graph.ops.forms import EXACT, ExactForm, RealForm, write_rounded_mean
from nybble.graph.ops.registry import register
from nybble.graph.ops.texts import window_details
from nybble.graph.ops.units import Unit
from nybble.graph.ops.windows import (
    check_pool_padding,
    is_whole_image,
    sides,
    sides_text,
    square_text,
    starts,
    window_shape,
)
from nybble.graph.types import ACTIVATIONS, Array, DType
from nybble.graph.value_type import ValueType

if TYPE_CHECKING:
    from fractions import Fraction


#: Most samples of a window: their sum fits 32 bits.
_MAX_WINDOW = 1 << 22


@dataclass(frozen=True, kw_only=True, eq=False)
class AvgPool2d(Node):
    """``floor((2 * sum + n) / (2 * n))`` of each window; ``n`` counts padding if asked to. Type stays."""

    input_type: DType
    kernel_size: Pair
    stride: Pair
    padding: Padding = Padding()
    ceil_mode: bool = False
    count_include_pad: bool = True


class AvgPool2dOperation(Operation[AvgPool2d]):
    """Average pool."""

    node = AvgPool2d
    unit = Unit.INPUT

    def infer(self, node: AvgPool2d, inputs: Sequence[ValueType]) -> ValueType:
        """The result has the input's type and magnitude. No window may lie wholly in padding."""
        (source,) = inputs
        check_input_type(node, source, node.input_type, ACTIVATIONS)
        channels, rows, columns = image_shape(node, source)
        shape = window_shape(
            node, rows, columns, node.kernel_size, node.stride, node.padding, Pair(1, 1), node.ceil_mode
        )
        check_pool_padding(node, node.kernel_size, node.padding, Pair(1, 1))
        if node.kernel_size.rows * node.kernel_size.columns > _MAX_WINDOW:
            raise GraphError("window is too large to sum in 32 bits", node=node.name, field="kernel_size")
        return ValueType(source.dtype, (channels, *shape), source.magnitude)

    def compute(self, node: AvgPool2d, types: Sequence[ValueType], values: Sequence[Array]) -> Array:
        """A window's sum is the difference of two prefix sums."""
        (images,) = values
        sums = images.astype(np.int64)
        counts = []
        for axis, (before, after) in zip((2, 3), sides(node.padding), strict=True):
            kernel, stride, size = node.kernel_size[axis - 2], node.stride[axis - 2], images.shape[axis]
            first = starts(size, before, after, kernel, stride, node.ceil_mode)
            # The window [first, end) is cut at the padded extent, as in PyTorch, which matters in ceil mode.
            end = np.minimum(first + kernel, size + after)
            low, high = np.maximum(first, 0), np.minimum(end, size)
            counts.append(end - first if node.count_include_pad else high - low)
            prefix = np.insert(np.cumsum(sums, axis=axis), 0, 0, axis=axis)
            sums = prefix.take(high, axis) - prefix.take(low, axis)
        count = np.outer(*counts)
        averages: Array = (2 * sums + count) // (2 * count)
        return averages.astype(types[0].dtype.storage)

    def read(self, folder: ModelFolder, file: LayerFile, name: str, inputs: tuple[str, ...]) -> AvgPool2d:
        """Every key is required."""
        input_type, output_type = file.mode(2)
        file.expect("compute_mode", output_type, input_type, "the input's type")
        return AvgPool2d(
            name=name,
            inputs=inputs,
            input_type=input_type,
            kernel_size=file.pair("kernel_size"),
            stride=file.pair("stride"),
            padding=file.padding("padding"),
            ceil_mode=file.flag("ceil_mode"),
            count_include_pad=file.flag("count_include_pad"),
        )

    def write(self, node: AvgPool2d, output: LayerOutput, sources: Sequence[DType]) -> None:
        """Write the lines that the published directory has."""
        text = output.text
        text.add("compute_mode", f"{node.input_type}{node.input_type}")
        text.add("kernel_size", square_text(node.kernel_size))
        text.add("stride", square_text(node.stride))
        text.add("padding", sides_text(node.padding))
        text.add("ceil_mode", node.ceil_mode)
        text.add("count_include_pad", node.count_include_pad)

    def converted(self, node: AvgPool2d, input_type: DType | None, ratio: Fraction) -> AvgPool2d:
        """Only the type changes."""
        return replace(node, input_type=input_type or node.input_type)

    def resized(self, node: AvgPool2d, before: Sequence[ValueType], after: Sequence[ValueType]) -> AvgPool2d:
        """A pool over the whole image remains one."""
        if not is_whole_image(node.kernel_size, node.padding, before[0]):
            return node
        size = Pair(*after[0].shape[1:])
        return replace(node, kernel_size=size, stride=size if node.stride == node.kernel_size else node.stride)

    def write_exact(self, node: AvgPool2d, form: ExactForm) -> None:
        """Written as sums by a convolution of ones, divided in int64."""
        source, made = form.values[node.inputs[0]], form.values[node.name].shape
        if source.magnitude * node.kernel_size.rows * node.kernel_size.columns > EXACT:
            raise GraphError("its window is too large for exact sums in float32", node=node.name)
        channels = source.shape[0]
        counts, ends = _samples(node, source.shape, made)
        ones = form.constant(f"{node.name}/ones", np.ones((channels, 1, *node.kernel_size)))
        sums = form.node(
            "Conv",
            [form.source(node.inputs[0]), ones],
            f"{node.name}/sums",
            name=node.name,
            kernel_shape=list(node.kernel_size),
            strides=list(node.stride),
            pads=list(Padding(node.padding.top, node.padding.left, *ends)),
            group=channels,
        )
        write_rounded_mean(form, node.name, sums, np.outer(*counts).astype(np.int64), 1 << source.dtype.bits)

    def write_real(self, node: AvgPool2d, form: RealForm) -> None:
        """Written as AveragePool of real numbers, then requantized."""
        # Averages are multiples of 1 / window: less than half of that moves nothing but halves, which go up.
        least = 0.25 / (node.kernel_size.rows * node.kernel_size.columns)
        form.store(node.name, _write(node, form), upward=least)

    def parts(self, node: AvgPool2d, types: Sequence[ValueType]) -> int:
        """The samples of a window."""
        return node.kernel_size.rows * node.kernel_size.columns

    def onnx_hint(self, node: AvgPool2d) -> Mapping[str, object]:
        """Keep the stride, which GlobalAveragePool does not have."""
        return {"stride": node.stride}

    def details(self, node: AvgPool2d) -> Sequence[str]:
        """Show the window."""
        return window_details(node.kernel_size, node.stride, node.padding)

    def examples(self, random: np.random.Generator) -> Iterator[Example[AvgPool2d]]:
        """Cover every type; uneven padding counted or not, windows that run past the end, and the whole image."""
        for input_type in ACTIVATIONS:
            for ceil_mode in (False, True):
                for counted in (False, True):
                    node = AvgPool2d(
                        name="pool",
                        inputs=("x",),
                        input_type=input_type,
                        kernel_size=Pair(3, 2),
                        stride=Pair(2, 2),
                        padding=Padding(1, 0, 2, 1),
                        ceil_mode=ceil_mode,
                        count_include_pad=counted,
                    )
                    yield Example(node, (activation(input_type, 3, 6, 7),))
        whole = Pair(5, 5)
        node = AvgPool2d(name="pool", inputs=("x",), input_type=DType.U8, kernel_size=whole, stride=whole)
        yield Example(node, (activation(DType.U8, 2, 5, 5),))


def _samples(node: AvgPool2d, shape: tuple[int, ...], made: tuple[int, ...]) -> tuple[list[Array], list[int]]:
    """How many samples each window counts, by rows and by columns, and the padding at both ends that they reach."""
    counts, ends = [], []
    around = sides(node.padding)
    for axis, (before, after) in enumerate(around):
        size, kernel = shape[axis + 1], node.kernel_size[axis]
        first = np.arange(made[axis + 1]) * node.stride[axis] - before
        # In ceil mode the last window may pass the padding, which it then does not count.
        end = np.minimum(first + kernel, size + after)
        inside = np.minimum(end, size) - np.maximum(first, 0)
        counts.append(end - first if node.count_include_pad else inside)
        ends.append(max(0, int(first[-1]) + kernel - size))
    return counts, ends


def _write(node: AvgPool2d, form: RealForm) -> str:
    source, name = form.source(node.inputs[0]), form.unstored(node.name)
    shape = form.values[node.inputs[0]].shape
    if shape[1:] == tuple(node.kernel_size) and node.padding == Padding():
        return form.node("GlobalAveragePool", [source], name, name=node.name)
    padding, counted = _explicit_padding(node, shape, form.values[node.name].shape)
    return form.node(
        "AveragePool",
        [source],
        name,
        name=node.name,
        kernel_shape=list(node.kernel_size),
        strides=list(node.stride),
        pads=list(padding),
        count_include_pad=int(counted),
    )


def _explicit_padding(node: AvgPool2d, shape: tuple[int, ...], made: tuple[int, ...]) -> tuple[Padding, bool]:
    """Explicit padding, and whether it counts: runtimes disagree about average pools in ceil mode."""
    past = [
        (extent - 1) * stride + kernel - before - size
        for extent, stride, kernel, before, size in zip(
            made[1:], node.stride, node.kernel_size, node.padding[:2], shape[1:], strict=True
        )
    ]
    bottom, right = max(node.padding.bottom, past[0]), max(node.padding.right, past[1])
    if (bottom, right) == node.padding[2:]:
        return node.padding, node.count_include_pad
    # What lies past the padding never counts.
    if node.count_include_pad and any(node.padding):
        raise GraphError(
            "ONNX has no average pool in ceil mode that counts its padding; set ceil_mode=False or "
            "count_include_pad=False, or export --exact",
            node=node.name,
        )
    return Padding(node.padding.top, node.padding.left, bottom, right), False


register(AvgPool2dOperation())
