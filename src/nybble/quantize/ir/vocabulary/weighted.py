"""Layers with weights, and batch norm."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nybble.graph import Padding, Pair
from nybble.graph.value_type import MAX_ELEMENTS, MAX_EXTENT
from nybble.quantize.ir.float_network import Conv, Crop, Dense, Norm, Op, Shuffle
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
        raise Unsupported("only two-dimensional convolutions of images are supported")
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


def conv_of_vector(
    x: Translation,
    weight: Any,
    bias: Any = None,
    stride: int = 1,
    padding: tuple[int, int] = (0, 0),
    dilation: int = 1,
    groups: int = 1,
) -> Result:
    """A one-dimensional convolution by weights (K, C / groups, taps).

    Along the channels of a vector, as in an ECA gate, it is a linear layer with a band of weights. With one tap it is
    a convolution of 1x1.
    """
    kernel = weights_of(weight, "weights of a convolution")
    if kernel.dim() != 3 or len(x.shape) != 2:
        raise Unsupported("only one-dimensional convolutions of (N, C, L) can be")
    outputs, inputs, taps = kernel.shape
    if groups < 1 or outputs % groups or inputs * groups != x.shape[0]:
        raise Unsupported(f"a weight {tuple(kernel.shape)} in {groups} groups does not fit {seen(x)}")
    if min(stride, dilation) < 1 or min(padding) < 0:
        raise Unsupported("its stride or dilation is below 1, or its padding below 0")
    extent = x.shape[1]
    if taps == 1 and stride == 1 and not any(padding) and len(x.extents) == 3 and x.channel_axis() == 0:
        made = conv(Translation(x.name, x.extents), kernel[..., None], bias, groups=groups)
        return Made((made,), x.axes) if isinstance(made, Conv) else made
    count = (extent + sum(padding) - dilation * (taps - 1) - 1) // stride + 1
    if outputs != 1 or inputs != 1 or count < 1:
        raise Unsupported(
            "a one-dimensional convolution can be along the channels of a vector (N, 1, C) only, and give as many"
        )
    if extent * count > MAX_ELEMENTS:
        raise Unsupported(f"a one-dimensional convolution of {extent} channels is too large")
    matrix = kernel.new_zeros(count, extent)
    for tap in range(taps):
        places = torch.arange(count) * stride + tap * dilation - padding[0]
        inside = (places >= 0) & (places < extent)
        matrix[torch.arange(count)[inside], places[inside]] += kernel[0, 0, tap]
    return dense(x, matrix, None if bias is None else weights_of(bias, "biases of a convolution").expand(count))


def conv_transpose(
    x: Translation,
    weight: Any,
    bias: Any = None,
    stride: Pair = Pair(1, 1),
    padding: Padding = Padding(),
    output_padding: Pair = Pair(0, 0),
    dilation: Pair = Pair(1, 1),
    groups: int = 1,
) -> Result:
    """A transposed convolution by weights (C, K / groups, rows, columns).

    Row ``q * stride + p`` of the full result depends on rows of the image by every ``stride``-th row of the weights,
    from ``p`` on. So a convolution makes all ``p`` of each ``q`` as channels of their own; these become pixels, and
    the padding is cut off.
    """
    kernel = weights_of(weight, "weights of a transposed convolution")
    x = image(x)
    if kernel.dim() != 4 or kernel.shape[0] != x.extents[0] or groups < 1 or kernel.shape[0] % groups:
        raise Unsupported(f"a weight {tuple(kernel.shape)} in {groups} groups does not fit {x.extents[0]} channels")
    if min(*stride, *dilation) < 1 or min(*padding, *output_padding) < 0:
        raise Unsupported("its strides and dilations must be positive, and its padding not negative")
    spans = [step * (size - 1) + 1 for step, size in zip(dilation, kernel.shape[2:], strict=True)]
    if max(*stride, *spans) > MAX_EXTENT or math.prod((*kernel.shape[:2], *spans, *stride)) > MAX_ELEMENTS:
        raise Unsupported(f"its strides {tuple(stride)} or dilations {tuple(dilation)} are too large")
    kernel = _spread(kernel, dilation)
    outputs = kernel.shape[1] * groups
    given = (padding.top, padding.bottom), (padding.left, padding.right)
    rows, columns = (
        _phases(*part) for part in zip(x.extents[1:], kernel.shape[2:], stride, given, output_padding, strict=True)
    )
    taps = kernel.new_zeros(*kernel.shape[:2], rows.taps * stride.rows, columns.taps * stride.columns)
    taps[:, :, : kernel.shape[2], : kernel.shape[3]] = kernel
    split = taps.reshape(*kernel.shape[:2], rows.taps, stride.rows, columns.taps, stride.columns)
    phases = torch.cat(
        [
            part.permute(1, 3, 5, 0, 2, 4).reshape(-1, len(part), rows.taps, columns.taps).flip(2, 3)
            for part in split.chunk(groups)
        ]
    )
    offset = _bias(bias, outputs, "biases of a transposed convolution")
    size = stride.rows * stride.columns
    made = conv(
        x,
        phases.contiguous(),
        None if offset is None else offset.repeat_interleave(size),
        padding=Padding(rows.before, columns.before, rows.after, columns.after),
        groups=groups,
    )
    if not isinstance(made, Conv):
        raise AssertionError("a convolution is one operation")
    made.name = "phases"
    ops: list[Op] = [made]
    if size > 1:
        full = (outputs, made.shape[1] * stride.rows, made.shape[2] * stride.columns)
        ops.append(Shuffle(name="pixels", inputs=("phases",), shape=full, block=stride))
    ends = Pair(rows.start + rows.extent, columns.start + columns.extent)
    if (rows.start, columns.start, *ends) != (0, 0, *ops[-1].shape[1:]):
        shape = (outputs, rows.extent, columns.extent)
        start = Pair(rows.start, columns.start)
        ops.append(Crop(name="cut", inputs=(ops[-1].name,), shape=shape, start=start, stop=ends))
    return Made(tuple(ops))


def _spread(kernel: Tensor, dilation: Pair) -> Tensor:
    """Weights with zeros between them, as far apart as a dilation says."""
    if dilation == (1, 1):
        return kernel
    extents = [step * (size - 1) + 1 for step, size in zip(dilation, kernel.shape[2:], strict=True)]
    spread = kernel.new_zeros(*kernel.shape[:2], *extents)
    spread[:, :, :: dilation.rows, :: dilation.columns] = kernel
    return spread


class _Phases(NamedTuple):
    """One axis of a transposed convolution: taps of the convolution and its padding, and what is kept of its result."""

    taps: int
    before: int
    after: int
    start: int
    extent: int


def _phases(extent: int, kernel: int, stride: int, padding: tuple[int, int], more: int) -> _Phases:
    size = (extent - 1) * stride + kernel - sum(padding) + more
    if size < 1:
        raise Unsupported("its padding leaves nothing")
    taps = -(-kernel // stride)
    # Whole strides that are cut off at the beginning need not be computed.
    skipped = min(padding[0] // stride, taps - 1)
    start = padding[0] - skipped * stride
    before = taps - 1 - skipped
    wanted = -(-(start + size) // stride)
    return _Phases(taps, before, max(0, wanted - extent - before + taps - 1), start, size)


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
