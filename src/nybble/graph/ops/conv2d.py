"""Convolution: 32-bit sums of products of codes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from nybble.graph.errors import GraphError
from nybble.graph.folder import ModelFolder
from nybble.graph.layer_output import LayerOutput
from nybble.graph.lines import LayerFile, joined
from nybble.graph.nodes import Node, Padding, Pair
from nybble.graph.ops.base import Example, Operation
from nybble.graph.ops.checks import check_input_type, image_shape
from nybble.graph.ops.examples import activation, drawn
from nybble.graph.ops.forms import ExactForm, Form, RealForm, write_exact_sums
from nybble.graph.ops.registry import register
from nybble.graph.ops.texts import window_details
from nybble.graph.ops.units import Unit, converted_bias, wider_weights
from nybble.graph.ops.weights import (
    WEIGHTS,
    bias_values,
    check_weight,
    exact_float,
    largest_sum,
    read_bias,
    read_sum_mode,
    write_weights,
)
from nybble.graph.ops.windows import sides, starts, window_shape
from nybble.graph.tensor import Tensor
from nybble.graph.types import ACTIVATIONS, Array, DType
from nybble.graph.value_type import MAX_EXTENT, ValueType

if TYPE_CHECKING:
    from fractions import Fraction


#: Elements of the unrolled windows that a convolution holds at a time.
_WINDOW_ELEMENTS = 1 << 23


@dataclass(frozen=True, kw_only=True, eq=False)
class Conv2d(Node):
    """Exact integer convolution: 32-bit sum of products plus bias; zero padding, zero point 0.

    ``weight`` is (out channels, in channels / groups, rows, columns), s4 or s8; ``bias`` (out
    channels), s16 or s32, or ``None``. Input (C, H, W) of an activation type, output s32.
    """

    input_type: DType
    weight: Tensor
    bias: Tensor | None = None
    stride: Pair = Pair(1, 1)
    padding: Padding = Padding()
    dilation: Pair = Pair(1, 1)
    groups: int = 1

    @property
    def out_channels(self) -> int:
        """Channels of the output."""
        return self.weight.shape[0]

    @property
    def in_channels(self) -> int:
        """Channels of the input, over all groups."""
        return self.weight.shape[1] * self.groups

    @property
    def kernel_size(self) -> Pair:
        """Rows and columns of the window."""
        return Pair(self.weight.shape[2], self.weight.shape[3])


class Conv2dOperation(Operation[Conv2d]):
    """Convolution."""

    node = Conv2d
    unit = Unit.WEIGHTED

    def infer(self, node: Conv2d, inputs: Sequence[ValueType]) -> ValueType:
        """The result is sums in s32; their magnitude is computed from the weights."""
        (source,) = inputs
        check_input_type(node, source, node.input_type, ACTIVATIONS)
        check_weight(node, node.weight, 4)
        channels, rows, columns = image_shape(node, source)
        if node.groups < 1 or node.out_channels % node.groups:
            raise GraphError(
                f"groups={node.groups} does not divide {node.out_channels} output channels",
                node=node.name,
                field="groups",
            )
        if node.in_channels != channels:
            raise GraphError(
                f"takes {node.in_channels} channels, but {node.inputs[0]} has {channels}",
                node=node.name,
                field="weight",
            )
        shape = window_shape(node, rows, columns, node.kernel_size, node.stride, node.padding, node.dilation, False)
        magnitude = largest_sum(node, node.weight, node.bias, source)
        return ValueType(DType.S32, (node.out_channels, *shape), magnitude)

    def compute(self, node: Conv2d, types: Sequence[ValueType], values: Sequence[Array]) -> Array:
        """One matrix product per block of rows, in floats in which it is exact."""
        (images,) = values
        weight = node.weight.numpy().reshape(node.groups, node.out_channels // node.groups, -1)
        number = exact_float(types[0], weight)
        weight = weight.astype(number)
        bias = bias_values(node.bias, node.out_channels)[:, None, None]
        spans = [dilation * (kernel - 1) + 1 for dilation, kernel in zip(node.dilation, node.kernel_size, strict=True)]
        height, width = (
            len(starts(size, before, after, span, stride, False))
            for size, (before, after), span, stride in zip(
                images.shape[2:], sides(node.padding), spans, node.stride, strict=True
            )
        )
        result = np.empty((len(images), node.out_channels, height, width), np.int32)
        taps = node.in_channels * node.kernel_size.rows * node.kernel_size.columns
        block = max(1, _WINDOW_ELEMENTS // (taps * width))
        for image, sums in zip(images, result, strict=True):
            windows = sliding_window_view(_pad_zero(image.astype(number), node.padding), spans, axis=(1, 2))
            windows = windows[
                :, :: node.stride.rows, :: node.stride.columns, :: node.dilation.rows, :: node.dilation.columns
            ]
            samples = windows.transpose(0, 3, 4, 1, 2)
            for top in range(0, height, block):
                # One column a pixel, with its window's samples in the order of the weights.
                rows = samples[:, :, :, top : top + block]
                columns = rows.reshape(node.groups, weight.shape[2], -1)
                sums[:, top : top + block] = np.matmul(weight, columns).reshape(node.out_channels, -1, width)
        result += bias
        return result

    def read(self, folder: ModelFolder, file: LayerFile, name: str, inputs: tuple[str, ...]) -> Conv2d:
        """Channels and window are given twice, in their own lines and by the weight's shape, and must agree."""
        input_type, weight_type, _ = read_sum_mode(file)
        reference = file.tensor("weight", WEIGHTS, 4)
        out_channels, per_group, *window = reference.shape
        groups = file.integer("groups", 1, MAX_EXTENT)
        file.expect("compute_mode", weight_type, reference.dtype, "the weight's type")
        file.expect("out_channels", file.integer("out_channels", 1, MAX_EXTENT), out_channels, "the weight's")
        in_channels = file.integer("in_channels", 1, MAX_EXTENT)
        file.expect("in_channels", in_channels, per_group * groups, "weight times groups:")
        kernel = file.pair("kernel_size")
        file.expect("kernel_size", tuple(kernel), tuple(window), "the weight's")
        return Conv2d(
            name=name,
            inputs=inputs,
            input_type=input_type,
            weight=folder.tensor(file, "weight", reference, reference.shape),
            bias=read_bias(folder, file, out_channels),
            stride=file.pair("stride"),
            padding=file.padding("padding"),
            dilation=file.pair("dilation"),
            groups=groups,
        )

    def write(self, node: Conv2d, output: LayerOutput, sources: Sequence[DType]) -> None:
        """Write the lines that the published directory has, with four numbers of padding if sides differ."""
        text = output.text
        text.add("compute_mode", f"{node.input_type}{node.weight.dtype}{DType.S32}")
        text.add("in_channels", node.in_channels)
        text.add("out_channels", node.out_channels)
        text.add("kernel_size", joined(node.kernel_size))
        text.add("stride", joined(node.stride))
        text.add("padding", joined(node.padding[:2] if node.padding.is_symmetric else node.padding))
        text.add("dilation", joined(node.dilation))
        text.add("groups", node.groups)
        write_weights(node.weight, node.bias, output)

    def converted(self, node: Conv2d, input_type: DType | None, ratio: Fraction) -> Conv2d:
        """Weights stay the same; biases are rounded once."""
        return replace(
            node,
            input_type=input_type or node.input_type,
            weight=wider_weights(node.weight),
            bias=converted_bias(node.bias, ratio, node.name),
        )

    def macs(self, node: Conv2d, result: ValueType) -> int:
        """One for each weight of its filter, for each element of the result."""
        return math.prod(result.shape) * math.prod(node.weight.shape[1:])

    def weighted(self, node: Conv2d) -> Conv2d:
        """The node."""
        return node

    def write_exact(self, node: Conv2d, form: ExactForm) -> None:
        """Written as Conv, or as several if float32 does not hold the sums."""
        write_exact_sums(form, node, form.source(node.inputs[0]), partial(_write, node, form))

    def write_real(self, node: Conv2d, form: RealForm) -> None:
        """Written as Conv."""
        _write(node, form, [form.source(node.inputs[0]), *form.weights(node, groups=node.groups)], node.name)

    def write_float(self, node: Conv2d, form: RealForm) -> None:
        """Written as Conv, or as GlobalAveragePool if it stands for that."""
        if self.averaged(node, form.values[node.inputs[0]]):
            form.node("GlobalAveragePool", [form.source(node.inputs[0])], node.name)
        else:
            self.write_real(node, form)

    def real_unit(self, node: Conv2d, types: Sequence[ValueType], units: Sequence[Array]) -> Array | None:
        """Free, except for an average."""
        count = self.averaged(node, types[0])
        return None if count is None else units[0] / count

    def averaged(self, node: Conv2d, source: ValueType) -> int | None:
        """How many samples it adds up, if it stands for an average over each channel's image that nothing rounds."""
        alone = node.groups == node.in_channels == node.out_channels and node.bias is None
        is_whole = source.shape[1:] == node.kernel_size and not any(node.padding)
        if not alone or not is_whole or not np.all(node.weight.numpy() == 1):
            return None
        return node.kernel_size.rows * node.kernel_size.columns

    def onnx_hint(self, node: Conv2d) -> Mapping[str, object]:
        """Keep the type of the bias, which ONNX has in 32 bits."""
        return {} if node.bias is None else {"bias": node.bias.dtype}

    def details(self, node: Conv2d) -> Sequence[str]:
        """Show the window without its extents, which the weights show."""
        return window_details(None, node.stride, node.padding, node.dilation, node.groups)

    def examples(self, random: np.random.Generator) -> Iterator[Example[Conv2d]]:
        """Cover every type of input and weight; groups, strides, dilation, uneven padding, with and without bias."""
        for input_type in ACTIVATIONS:
            for weight_type in WEIGHTS:
                weight = drawn(random, weight_type, 4, 3, 3, 3)
                node = Conv2d(name="conv", inputs=("x",), input_type=input_type, weight=weight, padding=Padding(1, 1))
                yield Example(node, (activation(input_type, 3, 5, 4),))
        for bias_type in (DType.S16, DType.S32):
            node = Conv2d(
                name="conv",
                inputs=("x",),
                input_type=DType.U4,
                weight=drawn(random, DType.S4, 4, 2, 2, 3),
                bias=Tensor.from_array(bias_type, random.integers(-3000, 3000, 4)),
                stride=Pair(2, 1),
                padding=Padding(0, 2, 1, 1),
                dilation=Pair(1, 2),
                groups=2,
            )
            yield Example(node, (activation(DType.U4, 4, 6, 7),))


def _write(node: Conv2d, form: Form, inputs: list[str], output: str) -> str:
    return form.node(
        "Conv",
        inputs,
        output,
        kernel_shape=list(node.kernel_size),
        strides=list(node.stride),
        pads=list(node.padding),
        dilations=list(node.dilation),
        group=node.groups,
    )


def _pad_zero(image: Array, padding: Padding) -> Array:
    if not any(padding):
        return image
    return np.pad(image, ((0, 0), (padding.top, padding.bottom), (padding.left, padding.right)))


register(Conv2dOperation())
