"""Largest code of each window."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
from nybble.graph.ops.forms import ExactForm, Form, RealForm
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


@dataclass(frozen=True, kw_only=True, eq=False)
class MaxPool2d(Node):
    """Largest value of each window; padding never wins. Type and channels stay."""

    input_type: DType
    kernel_size: Pair
    stride: Pair
    padding: Padding = Padding()
    dilation: Pair = Pair(1, 1)
    ceil_mode: bool = False


class MaxPool2dOperation(Operation[MaxPool2d]):
    """Maximum pool."""

    node = MaxPool2d
    unit = Unit.INPUT

    def infer(self, node: MaxPool2d, inputs: Sequence[ValueType]) -> ValueType:
        """The result has the input's type and magnitude. No window may lie wholly in padding."""
        (source,) = inputs
        check_input_type(node, source, node.input_type, ACTIVATIONS)
        channels, rows, columns = image_shape(node, source)
        shape = window_shape(
            node, rows, columns, node.kernel_size, node.stride, node.padding, node.dilation, node.ceil_mode
        )
        check_pool_padding(node, node.kernel_size, node.padding, node.dilation)
        # A dilated window that starts in the padding before the image may step over a small image.
        for size, count, before, stride, dilation in zip(
            (rows, columns), shape, node.padding[:2], node.stride, node.dilation, strict=True
        ):
            if any(start % dilation >= size for start in range(-before, min(0, count * stride - before), stride)):
                raise GraphError(
                    f"dilation={tuple(node.dilation)} leaves windows with nothing but padding",
                    node=node.name,
                    field="dilation",
                )
        return ValueType(source.dtype, (channels, *shape), source.magnitude)

    def compute(self, node: MaxPool2d, types: Sequence[ValueType], values: Sequence[Array]) -> Array:
        """The maximum over a window is the maximum over its rows of the maximum over its columns."""
        (images,) = values
        pooled = images
        for axis, (before, after) in zip((2, 3), sides(node.padding), strict=True):
            index = axis - 2
            reach = node.dilation[index] * (node.kernel_size[index] - 1)
            first = starts(images.shape[axis], before, after, reach + 1, node.stride[index], node.ceil_mode)
            pooled = _window_maximum(pooled, axis, first, node.dilation[index], node.kernel_size[index], types[0].dtype)
        return pooled

    def read(self, folder: ModelFolder, file: LayerFile, name: str, inputs: tuple[str, ...]) -> MaxPool2d:
        """``return_indices`` must be False."""
        input_type, output_type = file.mode(2)
        file.expect("compute_mode", output_type, input_type, "the input's type")
        if file.flag("return_indices"):
            raise file.error("return_indices=True is not supported", "return_indices")
        return MaxPool2d(
            name=name,
            inputs=inputs,
            input_type=input_type,
            kernel_size=file.pair("kernel_size"),
            stride=file.pair("stride"),
            padding=file.padding("padding"),
            dilation=file.pair("dilation"),
            ceil_mode=file.flag("ceil_mode"),
        )

    def write(self, node: MaxPool2d, output: LayerOutput, sources: Sequence[DType]) -> None:
        """Write the lines that the published directory has."""
        text = output.text
        text.add("compute_mode", f"{node.input_type}{node.input_type}")
        text.add("kernel_size", square_text(node.kernel_size))
        text.add("stride", square_text(node.stride))
        text.add("padding", sides_text(node.padding))
        text.add("dilation", square_text(node.dilation))
        text.add("return_indices", False)
        text.add("ceil_mode", node.ceil_mode)

    def converted(self, node: MaxPool2d, input_type: DType | None, ratio: Fraction) -> MaxPool2d:
        """Only the type changes."""
        return replace(node, input_type=input_type or node.input_type)

    def resized(self, node: MaxPool2d, before: Sequence[ValueType], after: Sequence[ValueType]) -> MaxPool2d:
        """A pool over the whole image remains one."""
        if tuple(node.dilation) != (1, 1) or not is_whole_image(node.kernel_size, node.padding, before[0]):
            return node
        size = Pair(*after[0].shape[1:])
        return replace(node, kernel_size=size, stride=size if node.stride == node.kernel_size else node.stride)

    def write_exact(self, node: MaxPool2d, form: ExactForm) -> None:
        """Written as MaxPool of integers in float32."""
        _write(node, form, form.source(node.name))

    def write_real(self, node: MaxPool2d, form: RealForm) -> None:
        """Written as MaxPool of real numbers, then requantized."""
        form.store(node.name, _write(node, form, form.unstored(node.name)))

    def details(self, node: MaxPool2d) -> Sequence[str]:
        """Show the window."""
        return window_details(node.kernel_size, node.stride, node.padding, node.dilation)

    def examples(self, random: np.random.Generator) -> Iterator[Example[MaxPool2d]]:
        """Cover every type; uneven padding, dilation, and windows that run past the end."""
        for input_type in ACTIVATIONS:
            for ceil_mode in (False, True):
                node = MaxPool2d(
                    name="pool",
                    inputs=("x",),
                    input_type=input_type,
                    kernel_size=Pair(3, 2),
                    stride=Pair(2, 2),
                    padding=Padding(1, 0, 2, 1),
                    dilation=Pair(1, 2),
                    ceil_mode=ceil_mode,
                )
                yield Example(node, (activation(input_type, 3, 6, 7),))
        node = MaxPool2d(
            name="pool",
            inputs=("x",),
            input_type=DType.S4,
            kernel_size=Pair(3, 3),
            stride=Pair(2, 2),
            padding=Padding(1, 1, 1, 1),
        )
        yield Example(node, (activation(DType.S4, 2, 5, 5),))


def _window_maximum(values: Array, axis: int, first: Array, dilation: int, kernel: int, dtype: DType) -> Array:
    """Largest of ``kernel`` samples, ``dilation`` apart, from each start on; samples outside count as the least."""
    size = values.shape[axis]
    shape = list(values.shape)
    shape[axis] = len(first)
    result = np.full(shape, dtype.minimum, dtype.storage)
    for tap in range(kernel):
        positions = first + tap * dilation
        inside = np.flatnonzero((positions >= 0) & (positions < size))
        if len(inside):
            # Positions rise with a constant step, so those inside are one stretch of the outputs.
            some = [slice(None)] * values.ndim
            some[axis] = slice(inside[0], inside[-1] + 1)
            target = result[tuple(some)]
            np.maximum(target, values.take(positions[inside], axis), out=target)
    return result


def _write(node: MaxPool2d, form: Form, output: str) -> str:
    """Write a MaxPool whose windows are padded explicitly: runtimes disagree about ceil mode.

    Padding that a runtime refuses, as wide as the kernel (a dilated one), becomes a Pad with the lowest float.
    """
    source = form.source(node.inputs[0])
    shape, made = form.values[node.inputs[0]].shape, form.values[node.name].shape
    after = []
    for axis, before, given in ((0, node.padding.top, node.padding.bottom), (1, node.padding.left, node.padding.right)):
        end = (made[axis + 1] - 1) * node.stride[axis] + node.dilation[axis] * (node.kernel_size[axis] - 1) + 1
        after.append(max(given, end - before - shape[axis + 1]))
    padding = Padding(node.padding.top, node.padding.left, *after)
    if any(pad >= kernel for pad, kernel in zip(padding, node.kernel_size * 2, strict=True)):
        pads = form.constant(
            f"{node.name}/pads", [0, 0, padding.top, padding.left, 0, 0, padding.bottom, padding.right], np.int64
        )
        lowest = form.constant(f"{node.name}/lowest", np.finfo(np.float32).min)
        source = form.node("Pad", [source, pads, lowest], f"{node.name}/padded")
        padding = Padding()
    return form.node(
        "MaxPool",
        [source],
        output,
        name=node.name,
        kernel_shape=list(node.kernel_size),
        strides=list(node.stride),
        pads=list(padding),
        dilations=list(node.dilation),
        ceil_mode=0,
    )


register(MaxPool2dOperation())
