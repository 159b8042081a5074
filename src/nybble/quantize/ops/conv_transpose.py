"""Transposed convolutions: a convolution whose channels become pixels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from nybble.graph import Padding, Pair
from nybble.quantize.ir import vocabulary
from nybble.quantize.ir.vocabulary import Result, Translation, Unsupported
from nybble.quantize.ops.aten_arguments import pair_of
from nybble.quantize.ops.base import FloatOperation
from nybble.quantize.ops.examples import FloatExample, around
from nybble.quantize.ops.forms import Forms
from nybble.quantize.ops.onnx_arguments import Value, attribute_pair, constant_of, image_of, tensor_of
from nybble.quantize.ops.registry import register

forms = Forms()


@forms.aten("conv_transpose2d.input")
def transposed_convolution(
    shape: tuple[int, ...],
    x: Translation,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sequence[int] = (1,),
    padding: Sequence[int] = (0,),
    output_padding: Sequence[int] = (0,),
    groups: int = 1,
    dilation: Sequence[int] = (1,),
) -> Result:
    """What a call of ``conv_transpose2d`` with these arguments stands for."""
    rows, columns = pair_of(padding)
    sides = Padding(rows, columns, rows, columns)
    return vocabulary.conv_transpose(
        x, weight, bias, pair_of(stride), sides, pair_of(output_padding), pair_of(dilation), groups
    )


@forms.onnx("ConvTranspose", weight=1)
def _onnx_conv_transpose(node: Any, value: Value, weight: Value, bias: Value | None = None) -> Result:
    kernel = tensor_of(constant_of(weight, "its weight"))
    if node.get("auto_pad", "NOTSET") != "NOTSET" or node.get("output_shape") is not None:
        raise Unsupported("only explicit padding is supported (pads, output_padding)")
    offset = None if bias is None else tensor_of(constant_of(bias, "its bias"))
    top, left, bottom, right = node.get("pads", [0, 0, 0, 0])
    more = Pair(*node.get("output_padding", [0, 0]))
    stride = attribute_pair(node, "strides")
    sides, spread = Padding(top, left, bottom, right), attribute_pair(node, "dilations")
    return vocabulary.conv_transpose(image_of(value), kernel, offset, stride, sides, more, spread, node.get("group", 1))


class TransposedConvolution(FloatOperation):
    """Captured as a convolution, a shuffle and perhaps a crop, which are operations of their own."""

    forms = forms

    def examples(self) -> Iterator[FloatExample]:
        """Cover kernels of the size of the stride, one larger, with padding, and one smaller."""
        yield around("like the stride", lambda: nn.ConvTranspose2d(6, 4, 2, 2), 4)
        yield around("overlapping", lambda: nn.ConvTranspose2d(6, 5, 3, 2, padding=1, output_padding=1), 5)
        yield around("wide", lambda: nn.ConvTranspose2d(6, 4, (5, 4), (2, 3), padding=(1, 2)), 4)
        yield around("grouped", lambda: nn.ConvTranspose2d(6, 4, 4, 2, padding=1, groups=2), 4)
        yield around("dilated", lambda: nn.ConvTranspose2d(6, 4, 3, 2, padding=2, dilation=2), 4)
        yield around("gaps", lambda: nn.ConvTranspose2d(6, 4, 1, 2, bias=False), 4)


register(TransposedConvolution())
