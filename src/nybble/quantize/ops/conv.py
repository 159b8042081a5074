"""Convolutions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor, nn

from nybble.graph import Conv2d, Padding, Pair
from nybble.graph.types import Array
from nybble.quantize.fake.weighted import QuantizedConv2d
from nybble.quantize.ir import float_network, vocabulary
from nybble.quantize.ir.vocabulary import Result, Translation, Unsupported, value_of
from nybble.quantize.ops.aten_arguments import pair_of, sides_of
from nybble.quantize.ops.base import FloatOperation
from nybble.quantize.ops.conv_transpose import transposed_convolution
from nybble.quantize.ops.examples import FloatExample, around
from nybble.quantize.ops.forms import Forms
from nybble.quantize.ops.onnx_arguments import (
    Value,
    attribute_pair,
    check_bias,
    constant_of,
    constants_behind,
    image_of,
    padding_of,
    tensor_of,
)
from nybble.quantize.ops.pad import copied
from nybble.quantize.ops.registry import register

if TYPE_CHECKING:
    from nybble.quantize.fake.network import Step
    from nybble.quantize.lower.conversion import Conversion
    from nybble.quantize.ops.restoration import Restoration
    from nybble.quantize.prepare.preparation import Preparation

forms = Forms()


@forms.aten("conv2d.default", "conv2d.padding")
def _conv2d(
    shape: tuple[int, ...],
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Sequence[int] = (1,),
    padding: str | Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    groups: int = 1,
) -> Result:
    spread = pair_of(dilation)
    if padding == "same" and isinstance(weight, Tensor):
        total = [step * (extent - 1) for step, extent in zip(spread, weight.shape[2:], strict=True)]
        top, left = total[0] // 2, total[1] // 2
        sides = Padding(top, left, total[0] - top, total[1] - left)
    else:
        sides = Padding() if isinstance(padding, str) else sides_of(padding)
    return vocabulary.conv(value_of(x), weight, bias, pair_of(stride), sides, spread, groups)


@forms.aten("conv1d.default", "conv1d.padding")
def _conv1d(
    shape: tuple[int, ...],
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Sequence[int] = (1,),
    padding: str | Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    groups: int = 1,
) -> Result:
    (step, *_), (spread, *_) = stride, dilation
    if isinstance(padding, str):
        total = spread * (weight.shape[-1] - 1) if padding == "same" and isinstance(weight, Tensor) else 0
        sides = (total // 2, total - total // 2)
    else:
        sides = (padding[0], padding[0])
    return vocabulary.conv_of_vector(value_of(x), weight, bias, step, sides, spread, groups)


@forms.aten("convolution.default")
def _convolution(
    shape: tuple[int, ...],
    x: Any,
    weight: Any,
    bias: Any,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Result:
    if isinstance(weight, Tensor) and weight.dim() == 3 and not transposed:
        return _conv1d(shape, x, weight, bias, stride, padding, dilation, groups)
    if transposed:
        return transposed_convolution(shape, x, weight, bias, stride, padding, output_padding, groups, dilation)
    return _conv2d(shape, x, weight, bias, stride, padding, dilation, groups)


def _check(node: Any, inputs: Sequence[Value | None]) -> None:
    weight = inputs[1]
    if isinstance(weight, np.ndarray) and weight.ndim not in (3, 4):
        raise Unsupported(f"its input 1 of shape {weight.shape} must have 3 or 4 dimensions")
    if len(arrays := constants_behind(inputs)) == 2:
        outputs = arrays[0].shape[0]
        check_bias(arrays, outputs, (outputs,))


@forms.onnx("Conv", ranks={2: 1}, weight=1, check=_check)
def _onnx_conv(node: Any, x: Value, weight: Value, bias: Value | None = None) -> Result:
    kernel = constant_of(weight, "weights")
    if kernel.ndim == 3:
        return _onnx_conv1d(node, value_of(x), kernel, bias)
    x = image_of(x)
    window = Pair(kernel.shape[2], kernel.shape[3])
    stride, dilation = attribute_pair(node, "strides"), attribute_pair(node, "dilations")
    padding = padding_of(node, x, window, stride, dilation)
    offset = None if bias is None else tensor_of(constant_of(bias, "biases"))
    return vocabulary.conv(x, tensor_of(kernel), offset, stride, padding, dilation, int(node.get("group", 1)))


def _onnx_conv1d(node: Any, x: Translation, kernel: Array, bias: Value | None) -> Result:
    (stride, *more), (dilation, *others) = node.get("strides", [1]), node.get("dilations", [1])
    before, after, *rest = node.get("pads", [0, 0])
    if more or others or rest or node.get("auto_pad", "NOTSET") != "NOTSET":
        raise Unsupported("its strides, dilations or padding are not those of a one-dimensional convolution")
    offset = None if bias is None else tensor_of(constant_of(bias, "biases"))
    group = int(node.get("group", 1))
    return vocabulary.conv_of_vector(x, tensor_of(kernel), offset, stride, (before, after), dilation, group)


class Convolution(FloatOperation):
    """A convolution, with the batch norm that was folded into it."""

    forms = forms
    ops = (float_network.Conv,)
    modules = (QuantizedConv2d,)
    nodes = (Conv2d,)

    def examples(self) -> Iterator[FloatExample]:
        """Cover grouped, depthwise and dilated convolutions, and different steps for rows and columns."""
        yield around("grouped", lambda: nn.Sequential(nn.ReLU(), nn.Conv2d(6, 6, 3, groups=2), nn.ReLU()))
        yield around("depthwise", lambda: nn.Sequential(nn.ReLU6(), nn.Conv2d(6, 6, 3, padding=1, groups=6)))
        yield around("dilated", lambda: nn.Conv2d(6, 6, 3, (2, 1), 2, dilation=2, bias=False))

    def prepare(self, op: float_network.Conv, preparation: Preparation) -> None:
        """Add a layer that reads codes and gives exact sums."""
        preparation.add_layer(
            op,
            QuantizedConv2d,
            stride=op.stride,
            padding=op.padding,
            dilation=op.dilation,
            groups=op.groups,
        )

    def convert(self, module: QuantizedConv2d, step: Step, conversion: Conversion) -> None:
        """Add the codes of the weights, and biases in units of the sums."""
        conversion.append_layer(
            module,
            step,
            Conv2d,
            stride=module.stride,
            padding=module.padding,
            dilation=module.dilation,
            groups=module.groups,
        )

    def restore(self, node: Conv2d, restoration: Restoration) -> None:
        """Restore the layer; nothing if it only copies codes: then the Quantize behind it stands for padding."""
        if copied(node, restoration) is None:
            restoration.append_layer(
                node,
                QuantizedConv2d,
                stride=node.stride,
                padding=node.padding,
                dilation=node.dilation,
                groups=node.groups,
            )


register(Convolution())
