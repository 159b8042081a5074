"""What each ATen operation means here."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nybble.graph import Padding, Pair
from nybble.quantize.errors import CaptureError
from nybble.quantize.float_network import AvgPool, Concat, Conv, Dense, Flat, MaxPool, Norm, Op, Pad, Rectifier, Sum

#: Operations without a result that is used.
IGNORED = (torch.ops.aten._assert_tensor_metadata.default, torch.ops.aten._assert_scalar.default)


class Translation(NamedTuple):
    """A value that depends on the input: its name and shape, without the batch."""

    name: str
    shape: tuple[int, ...]


Result = Op | Translation
Handler = Callable[..., Result]
_HANDLERS: dict[str, Handler] = {}


def translate(target: str, args: tuple[Any, ...], kwargs: dict[str, Any], shape: tuple[int, ...]) -> Result:
    """The operation that a call stands for, or the value itself where it changes nothing.

    Parameters
    ----------
    target : str
        The ATen operation, such as ``aten.conv2d.default``.
    args, kwargs
        Its arguments; values that depend on the input as :class:`Translation`, constants as tensors and numbers.
    shape : tuple of int
        Of the result, without the batch.

    Raises
    ------
    CaptureError
        Saying what is not supported.
    """
    handler = _HANDLERS.get(target)
    if handler is None:
        raise CaptureError(
            f"{target} cannot be captured; a network may consist of convolutions, batch norm, ReLU and ReLU6, "
            "additions, concatenations of channels, max and average pools, flattening, linear layers, zero padding and "
            "strided slices"
        )
    kwargs = {name: value for name, value in kwargs.items() if value is not None}
    try:
        return handler(shape, *args, **kwargs)
    except TypeError:
        raise CaptureError(f"{target} with these arguments cannot be captured") from None


def _handles(*targets: str) -> Callable[[Handler], Handler]:
    def register(handler: Handler) -> Handler:
        _HANDLERS.update({f"aten.{target}": handler for target in targets})
        return handler

    return register


def _pair(value: int | Sequence[int]) -> Pair:
    if isinstance(value, int):
        return Pair(value, value)
    return Pair(value[0], value[-1])


def _sides(value: int | Sequence[int]) -> Padding:
    rows, columns = _pair(value)
    return Padding(rows, columns, rows, columns)


def _weights(value: Any, what: str) -> Any:
    if value is not None and not isinstance(value, Tensor):
        raise CaptureError(f"{what} are computed from the input; they must be constant")
    return None if value is None else value.detach()


@_handles("conv2d.default", "conv2d.padding")
def _conv2d(
    shape: tuple[int, ...],
    x: Translation,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sequence[int] = (1,),
    padding: str | Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    groups: int = 1,
) -> Op:
    weight, bias = _weights(weight, "weights of a convolution"), _weights(bias, "biases of a convolution")
    spread = _pair(dilation)
    if padding == "same":
        total = [step * (extent - 1) for step, extent in zip(spread, weight.shape[2:], strict=True)]
        top, left = total[0] // 2, total[1] // 2
        sides = Padding(top, left, total[0] - top, total[1] - left)
    else:
        sides = Padding() if isinstance(padding, str) else _sides(padding)
    return Conv(
        name="",
        inputs=(x.name,),
        shape=shape,
        weight=weight,
        bias=bias,
        stride=_pair(stride),
        padding=sides,
        dilation=spread,
        groups=groups,
    )


@_handles("convolution.default")
def _convolution(
    shape: tuple[int, ...],
    x: Translation,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Result:
    if transposed or len(shape) != 3:
        raise CaptureError("only plain two-dimensional convolutions can be captured")
    return _conv2d(shape, x, weight, bias, stride, padding, dilation, groups)


@_handles("linear.default")
def _linear(shape: tuple[int, ...], x: Translation, weight: Tensor, bias: Tensor | None = None) -> Op:
    if len(x.shape) != 1:
        raise CaptureError(f"a linear layer must read (N, C), not (N, {', '.join(map(str, x.shape))}); flatten before")
    return Dense(
        name="",
        inputs=(x.name,),
        shape=shape,
        weight=_weights(weight, "weights of a linear layer"),
        bias=_weights(bias, "biases of a linear layer"),
    )


@_handles("_native_batch_norm_legit_no_training.default")
def _batch_norm(
    shape: tuple[int, ...],
    x: Translation,
    gain: Tensor | None,
    offset: Tensor | None,
    mean: Tensor,
    variance: Tensor,
    momentum: float,
    eps: float,
) -> Op:
    for value in (gain, offset, mean, variance):
        _weights(value, "parameters of batch norm")
    return Norm(
        name="",
        inputs=(x.name,),
        shape=shape,
        gain=torch.ones_like(mean) if gain is None else gain.detach(),
        offset=torch.zeros_like(mean) if offset is None else offset.detach(),
        mean=mean.detach(),
        variance=variance.detach(),
        eps=eps,
    )


@_handles("relu.default")
def _relu(shape: tuple[int, ...], x: Translation) -> Op:
    return Rectifier(name="", inputs=(x.name,), shape=shape)


@_handles("relu6.default")
def _relu6(shape: tuple[int, ...], x: Translation) -> Op:
    return Rectifier(name="", inputs=(x.name,), shape=shape, maximum=6.0)


@_handles("hardtanh.default", "clamp.default", "clamp_min.default")
def _clamp(shape: tuple[int, ...], x: Translation, *bounds: float | None, **named: float) -> Op:
    low, high = (*bounds, None, None)[:2]
    low = named.get("min", low)
    high = named.get("max", high)
    if low is None or float(low) != 0 or (high is not None and not float(high) > 0):
        raise CaptureError(f"clamping to {low}..{high} cannot be captured; the lower end must be 0")
    return Rectifier(name="", inputs=(x.name,), shape=shape, maximum=None if high is None else float(high))


@_handles("add.Tensor")
def _add(shape: tuple[int, ...], left: Any, right: Any, *, alpha: float = 1) -> Op:
    for value in (left, right):
        if not isinstance(value, Translation):
            raise CaptureError("adding a constant cannot be captured; make it a bias of the layer before")
    if left.shape != right.shape or alpha != 1:
        raise CaptureError(f"only values of one shape can be added, not {left.shape} and {right.shape}, times {alpha}")
    return Sum(name="", inputs=(left.name, right.name), shape=shape)


@_handles("max_pool2d.default", "max_pool2d_with_indices.default")
def _max_pool(
    shape: tuple[int, ...],
    x: Translation,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    ceil_mode: bool = False,
) -> Op:
    return MaxPool(
        name="",
        inputs=(x.name,),
        shape=shape,
        kernel_size=_pair(kernel_size),
        stride=_pair(stride or kernel_size),
        padding=_sides(padding),
        dilation=_pair(dilation),
        ceil_mode=ceil_mode,
    )


@_handles("avg_pool2d.default")
def _avg_pool(
    shape: tuple[int, ...],
    x: Translation,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Op:
    if divisor_override is not None:
        raise CaptureError("an average pool with divisor_override cannot be captured")
    return AvgPool(
        name="",
        inputs=(x.name,),
        shape=shape,
        kernel_size=_pair(kernel_size),
        stride=_pair(stride or kernel_size),
        padding=_sides(padding),
        ceil_mode=ceil_mode,
        count_include_pad=count_include_pad,
    )


@_handles("adaptive_avg_pool2d.default")
def _adaptive(shape: tuple[int, ...], x: Translation, size: Sequence[int]) -> Result:
    return _divided(AvgPool, x, shape)


@_handles("adaptive_max_pool2d.default")
def _adaptive_max(shape: tuple[int, ...], x: Translation, size: Sequence[int]) -> Result:
    return _divided(MaxPool, x, shape)


def _divided(kind: type[AvgPool | MaxPool], x: Translation, shape: tuple[int, ...]) -> Result:
    """An adaptive pool whose windows are all of one size."""
    if x.shape == shape:
        return x
    if x.shape[1] % shape[1] or x.shape[2] % shape[2]:
        raise CaptureError(
            f"an adaptive pool from {x.shape[1]}x{x.shape[2]} to {shape[1]}x{shape[2]} has windows of several sizes; "
            "choose an image size that divides evenly"
        )
    window = Pair(x.shape[1] // shape[1], x.shape[2] // shape[2])
    return kind(name="", inputs=(x.name,), shape=shape, kernel_size=window, stride=window)


@_handles("mean.dim")
def _mean(
    shape: tuple[int, ...], x: Translation, dimensions: Sequence[int], keepdim: bool = False, *, dtype: Any = None
) -> Op:
    axes = {axis % (len(x.shape) + 1) for axis in dimensions or ()}
    if len(x.shape) != 3 or axes != {2, 3}:
        raise CaptureError("a mean can be captured over rows and columns only")
    window = Pair(*x.shape[1:])
    # Without keepdim the result has rows and columns here all the same: what reads it reads it flat.
    return AvgPool(name="", inputs=(x.name,), shape=(x.shape[0], 1, 1), kernel_size=window, stride=window)


@_handles("view.default", "reshape.default", "_unsafe_view.default", "flatten.using_ints")
def _view(shape: tuple[int, ...], x: Translation, *_: Any) -> Result:
    return _reshaped(shape, x)


@_handles("squeeze.dims", "squeeze.dim", "squeeze.default", "unsqueeze.default")
def _squeeze(shape: tuple[int, ...], x: Translation, *_: Any) -> Result:
    return _reshaped(shape, x)


def _reshaped(shape: tuple[int, ...], x: Translation) -> Result:
    if shape == x.shape:
        return x
    if shape != (math.prod(x.shape),):
        raise CaptureError(f"reshaping (N, {x.shape}) to (N, {shape}) cannot be captured; only flattening can")
    return Flat(name="", inputs=(x.name,), shape=shape)


@_handles("dropout.default", "feature_dropout.default", "alpha_dropout.default", "native_dropout.default")
def _dropout(shape: tuple[int, ...], x: Translation, rate: float = 0.5, train: bool = False) -> Result:
    if train:
        raise CaptureError("dropout is active even in evaluation mode; tie it to module.training")
    return x


@_handles("clone.default", "detach.default", "alias.default", "contiguous.default", "lift_fresh_copy.default")
def _same(shape: tuple[int, ...], x: Translation, *, memory_format: Any = None) -> Result:
    return x


@_handles("_to_copy.default", "to.dtype", "to.dtype_layout", "to.device")
def _cast(shape: tuple[int, ...], x: Translation, *args: Any, dtype: Any = None, **_: Any) -> Result:
    for entry in (dtype, *args):
        if isinstance(entry, torch.dtype) and entry is not torch.float32:
            raise CaptureError(f"a conversion to {entry} cannot be captured; the network must compute in float32")
    return x


@_handles("pad.default", "constant_pad_nd.default")
def _pad(
    shape: tuple[int, ...], x: Translation, sides: Sequence[int], mode: Any = "constant", value: Any = None
) -> Result:
    filling = value if isinstance(mode, str) else mode
    if isinstance(mode, str) and mode != "constant":
        raise CaptureError(f"padding in mode {mode!r} cannot be captured; only zeros can")
    if filling not in (None, 0):
        raise CaptureError(f"padding with {filling} cannot be captured; only zeros can")
    given = [*sides, *[0] * (6 - len(sides))]
    if len(given) > 6 or min(given) < 0 or len(x.shape) != 3:
        raise CaptureError(f"padding by {list(sides)} cannot be captured")
    left, right, top, bottom, before, after = given
    if not any(given):
        return x
    padding = Padding(top, left, bottom, right)
    return Pad(name="", inputs=(x.name,), shape=shape, padding=padding, channels=(before, after))


@_handles("slice.Tensor")
def _slice(
    shape: tuple[int, ...],
    x: Translation,
    dimension: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> Result:
    axis = dimension % (len(x.shape) + 1)
    if shape == x.shape and step == 1:
        return x
    if axis not in (2, 3) or start not in (None, 0):
        raise CaptureError("only slices of rows and columns that start at 0 can be captured")
    size = x.shape[axis - 1]
    if end is not None and end < size and shape[axis - 1] != -(-size // step):
        raise CaptureError("only slices that go to the end can be captured")
    stride = Pair(step, 1) if axis == 2 else Pair(1, step)
    return MaxPool(name="", inputs=(x.name,), shape=shape, kernel_size=Pair(1, 1), stride=stride)


@_handles("cat.default")
def _cat(shape: tuple[int, ...], values: Sequence[Any], dimension: int = 0) -> Result:
    found = [i for i, value in enumerate(values) if isinstance(value, Translation)]
    zeros = [value for value in values if isinstance(value, Tensor) and not bool(value.any())]
    if dimension not in (1, -3) or len(shape) != 3:
        raise CaptureError(
            "a concatenation can be captured of the channels of images only: dimension 1 of (N, C, H, W)"
        )
    if len(found) == len(values) > 1:
        return Concat(name="", inputs=tuple(value.name for value in values), shape=shape)
    if len(found) != 1 or len(zeros) + 1 != len(values):
        raise CaptureError("a concatenation with constants cannot be captured, except one value with channels of zeros")
    x = values[found[0]]
    if not zeros:
        return Translation(x.name, x.shape)
    before = sum(int(value.shape[1]) for value in values[: found[0]])
    after = sum(int(value.shape[1]) for value in values[found[0] + 1 :])
    return Pad(name="", inputs=(x.name,), shape=shape, channels=(before, after))
