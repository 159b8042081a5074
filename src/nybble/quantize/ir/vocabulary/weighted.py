"""Layers with weights, and batch norm."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nybble.graph import Padding, Pair
from nybble.quantize.ir.float_network import Conv, Dense, Norm
from nybble.quantize.ir.vocabulary.value import Made, Result, Translation, Unsupported, image, seen
from nybble.quantize.ir.vocabulary.windows import output_extents


def weights_of(value: Any, what: str) -> Tensor:
    """A constant in float32."""
    if not isinstance(value, Tensor):
        raise Unsupported(f"{what} are computed from the image; they must be constant")
    return value.detach().float()


def conv(
    x: Translation,
    weight: Any,
    bias: Any = None,
    stride: Pair = Pair(1, 1),
    padding: Padding = Padding(),
    dilation: Pair = Pair(1, 1),
    groups: int = 1,
) -> Result:
    """A two-dimensional convolution by weights (K, C / groups, rows, columns)."""
    kernel = weights_of(weight, "weights of a convolution")
    if kernel.dim() != 4:
        raise Unsupported("only two-dimensional convolutions of images can be")
    x = image(x)
    outputs, inputs, rows, columns = kernel.shape
    if groups < 1 or outputs % groups or inputs * groups != x.extents[0]:
        raise Unsupported(f"a weight {tuple(kernel.shape)} in {groups} groups does not fit {x.extents[0]} channels")
    return Conv(
        name="",
        inputs=(x.name,),
        shape=(outputs, *output_extents(x, Pair(rows, columns), stride, padding, dilation)),
        weight=kernel,
        bias=_bias(bias, outputs, "biases of a convolution"),
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )


def dense(x: Translation, weight: Any, bias: Any = None) -> Result:
    """A linear layer by weights (K, F) of the last axis: of vectors, or of images with the channels last."""
    matrix = weights_of(weight, "weights of a linear layer")
    if matrix.dim() != 2:
        raise Unsupported(f"weights of a linear layer must be a matrix, not of shape {tuple(matrix.shape)}")
    if matrix.shape[1] != x.shape[-1]:
        raise Unsupported(f"weights {tuple(matrix.shape)} do not fit {seen(x)}")
    offset = _bias(bias, len(matrix), "biases of a linear layer")
    last = len(x.axes) - 1
    if all(extent == 1 for extent in x.shape[:-1]):
        # Its columns in the order in which the network has the elements.
        own = [x.extents[axis] for axis in x.axes[-1]]
        order = sorted(range(len(own)), key=x.axes[-1].__getitem__)
        columns = matrix.reshape(len(matrix), *own).permute(0, *(place + 1 for place in order))
        layer = Dense(
            name="",
            inputs=(x.name,),
            shape=(len(matrix),),
            weight=columns.reshape(len(matrix), -1).contiguous(),
            bias=offset,
        )
        return Made((layer,), (*((),) * last, (0,)))
    if len(x.extents) == 3 and x.channel_axis() == last:
        kernel = matrix.reshape(*matrix.shape, 1, 1)
        wide = Conv(name="", inputs=(x.name,), shape=(len(matrix), *x.extents[1:]), weight=kernel, bias=offset)
        return Made((wide,), x.axes)
    raise Unsupported(f"a linear layer must read (N, C), not {seen(x)}; flatten before")


def matmul(x: Any, matrix: Any, bias: Any = None) -> Result:
    """Vectors times a constant matrix (F, K)."""
    if not isinstance(x, Translation) or not isinstance(matrix, Tensor):
        raise Unsupported("two values cannot be multiplied; one side must be a constant matrix, the right one")
    if matrix.dim() != 2:
        raise Unsupported(f"the constant must be a matrix, not of shape {tuple(matrix.shape)}")
    return dense(x, matrix.t(), bias)


def batch_norm(x: Translation, gain: Any, offset: Any, mean: Any, variance: Any, eps: float) -> Result:
    """Batch norm with fixed statistics; without gain and offset those are 1 and 0."""
    what = "parameters of batch norm"
    middle, spread = weights_of(mean, what).reshape(-1), weights_of(variance, what).reshape(-1)
    if x.channel_axis() != 0:
        raise Unsupported(f"batch norm must have the channels of the network on axis 1, not {seen(x)}")
    if len(middle) != x.extents[0]:
        raise Unsupported(f"batch norm of {len(middle)} channels does not fit {seen(x)}")
    if not bool((spread + eps > 0).all()):
        raise Unsupported("the variance of batch norm is not positive everywhere")
    norm = Norm(
        name="",
        inputs=(x.name,),
        shape=x.extents,
        gain=torch.ones_like(middle) if gain is None else weights_of(gain, what).reshape(-1),
        offset=torch.zeros_like(middle) if offset is None else weights_of(offset, what).reshape(-1),
        mean=middle,
        variance=spread,
        # As ONNX files hold it, so that both front ends give one network.
        eps=float(torch.tensor(eps, dtype=torch.float32)),
    )
    return Made((norm,), x.axes)


def _bias(value: Any, channels: int, what: str) -> Tensor | None:
    if value is None:
        return None
    bias = weights_of(value, what).reshape(-1)
    if len(bias) not in (1, channels):
        raise Unsupported(f"{len(bias)} {what} do not fit {channels} channels")
    return bias.expand(channels).contiguous()
