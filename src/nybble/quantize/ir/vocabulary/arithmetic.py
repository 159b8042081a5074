"""Element by element: sums, constants by channel, limits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

import torch
from torch import Tensor

from nybble.quantize.ir.elementwise import Function
from nybble.quantize.ir.float_network import Affine, Op, Rectifier, Sum
from nybble.quantize.ir.vocabulary.value import STACKED, Made, MadeStack, Result, Stack, Translation, Unsupported, seen

#: A value, or a constant.
Operand: TypeAlias = Translation | Tensor | float
#: Limits as exporters write them where there are none.
_NO_LIMIT = float(torch.finfo(torch.float32).max)


def affine(x: Translation, factor: Tensor | float, offset: Tensor | float) -> Op | Made | Translation:
    """``factor * x + offset``, each a number or one by channel."""
    gain, shift = _by_channel(factor, x), _by_channel(offset, x)
    if bool((gain == 1).all()) and not bool(shift.any()):
        return x
    op = Affine(name="", inputs=(x.name,), shape=x.extents, gain=gain.float(), offset=shift.float())
    if not bool(torch.isfinite(op.gain).all()) or not bool(torch.isfinite(op.offset).all()):
        raise Unsupported("its constant holds NaN or infinity, or divides by zero")
    return Made((op,), x.axes)


def add(left: Operand, right: Operand, alpha: float = 1.0) -> Op | Made | Translation | Tensor:
    """``left + alpha * right``."""
    if isinstance(left, Translation) and isinstance(right, Translation):
        return _summed(left, right, alpha)
    if isinstance(left, Translation):
        return affine(left, 1.0, alpha * _constant(right))
    if isinstance(right, Translation):
        return affine(right, alpha, _constant(left))
    return _constant(left) + alpha * _constant(right)


def subtract(left: Operand, right: Operand, alpha: float = 1.0) -> Result:
    """``left - alpha * right``."""
    return add(left, right, -alpha)


def negate(x: Translation) -> Result:
    """``-x``."""
    return affine(x, -1.0, 0.0)


def multiply(left: Operand, right: Operand) -> Result:
    """A value times a constant."""
    if isinstance(left, Translation) and isinstance(right, Translation):
        raise Unsupported(
            "values of two shapes cannot be multiplied; only values of one shape, or by a gate (N, C, 1, 1)"
        )
    if isinstance(left, Translation):
        return affine(left, _constant(right), 0.0)
    if isinstance(right, Translation):
        return affine(right, _constant(left), 0.0)
    return _constant(left) * _constant(right)


def divide(left: Operand, right: Operand) -> Result:
    """A value divided by a constant."""
    if isinstance(right, Translation):
        raise Unsupported("a value that depends on the image cannot be a divisor; divide by a constant")
    if isinstance(left, Translation):
        return affine(left, 1.0 / _constant(right), 0.0)
    return _constant(left) / _constant(right)


def sum_of(values: Sequence[Operand]) -> Result:
    """The sum of any number of values and constants, from the left."""
    ops: list[Op] = []
    sum_so_far = values[0]
    for value in values[1:]:
        result = add(sum_so_far, value)
        sum_so_far = _local(result, ops) if isinstance(result, Op | Made) else result
    if isinstance(sum_so_far, Translation):
        return Made(tuple(ops), sum_so_far.axes) if ops else sum_so_far
    return torch.as_tensor(sum_so_far)


def sum_of_stack(x: Stack, axes: Sequence[int] | None, keepdim: bool, *, average: bool = False) -> Result:
    """The sum, or the mean, of what is stacked."""
    rank = len(x.values[0].shape) + 2
    if keepdim or axes is None or [axis % rank for axis in axes] != [x.axis]:
        raise Unsupported(STACKED)
    result = sum_of(x.values)
    if not average or not isinstance(result, Made):
        return result
    ops: list[Op] = []
    summed = _local(result, ops)
    scaled = affine(summed, 1.0 / len(x.values), 0.0)
    if isinstance(scaled, Made):
        _local(scaled, ops)
    return Made(tuple(ops), result.axes)


def clip(x: Translation, low: float | None, high: float | None) -> Result:
    """``min(max(x, low), high)``; None and infinities are not limits.

    Only 0 can be a lower end, unless what is read, or what alone reads it, is limited to 0 itself.
    """
    least = None if low is None or low <= -_NO_LIMIT else float(low)
    most = None if high is None or high >= _NO_LIMIT else float(high)
    if least is None and most is None:
        return x
    if (least is not None and least > 0) or (most is not None and not most > 0):
        raise Unsupported(f"it clips to {_limit(least)}..{_limit(most)}; the lower end must be 0, the upper above it")
    # One below 0, or none, is not a limit for what is positive anyway: `fold.join_limits` knows.
    op = Rectifier(name="", inputs=(x.name,), shape=x.extents, minimum=least, maximum=most)
    return Made((op,), x.axes)


def larger(left: Translation, right: Translation) -> Result:
    """The larger of two values, element by element: ``right + relu(left - right)``."""
    return _selected(left, right, 1.0)


def smaller(left: Translation, right: Translation) -> Result:
    """The smaller of two values, element by element: ``right - relu(right - left)``."""
    return _selected(left, right, -1.0)


def _selected(left: Translation, right: Translation, sign: float) -> Result:
    if left.name == right.name:
        return left
    ops: list[Op] = []
    first, second = (left, right) if sign > 0 else (right, left)
    difference = _local(_summed(first, second, -1.0), ops)
    excess = Rectifier(name="", inputs=(difference.name,), shape=left.extents, minimum=0.0)
    positive = _local(excess, ops)
    _local(_summed(right, replace(positive, axes=right.axes), sign), ops)
    return Made(tuple(ops), left.axes)


def bound_of(constant: Tensor | float) -> float:
    """A limit that is one number for all elements."""
    tensor = torch.as_tensor(constant)
    if tensor.numel() == 0 or not bool((tensor == tensor.reshape(-1)[0]).all()):
        raise Unsupported("limits must be one number for all channels")
    return float(tensor.reshape(-1)[0])


def softmax(x: Translation, axis: int, log: bool = False) -> Translation:
    """A softmax over the classes at the network's end. It is left out, as the order of the classes stays."""
    if math.prod(x.shape) != x.shape[x.axis(axis)]:
        raise Unsupported(f"a softmax can be left out over the classes of (N, classes) only, not of {seen(x)}")
    if x.ending:
        raise Unsupported("one softmax at the end can be left out, not two")
    return Translation(x.name, x.extents, x.axes, "log_softmax" if log else "softmax")


def softmax_of_stack(x: Stack, axis: int) -> MadeStack:
    """A softmax of two values, element by element: ``sigmoid(a - b)`` and ``sigmoid(b - a)``."""
    if axis % (len(x.values[0].shape) + 2) != x.axis:
        raise Unsupported("a softmax of stacked values can be along the axis on which they are stacked only")
    if len(x.values) != 2:
        raise Unsupported(f"a softmax of {len(x.values)} stacked values has no integer form; only of two")
    return MadeStack(tuple(_more_of(*pair) for pair in (x.values, x.values[::-1])), x.axis)


def _more_of(left: Translation, right: Translation) -> Made:
    ops: list[Op] = []
    difference = _local(_summed(left, right, -1.0), ops)
    _local(
        Function(name="", inputs=(difference.name,), shape=difference.extents, function=torch.sigmoid, label="Sigmoid"),
        ops,
    )
    return Made(tuple(ops), left.axes)


def _summed(left: Translation, right: Translation, alpha: float) -> Made:
    if left.shape == right.shape and len(left.extents) != len(right.extents):
        raise Unsupported(
            "a linear layer's result cannot be added to a pool's; make the linear layer a convolution of 1x1"
        )
    if left.extents != right.extents or left.layout() != right.layout():
        raise Unsupported(f"only values of one shape can be added, not {seen(left)} and {seen(right)}")
    ops: list[Op] = []
    scaled = affine(right, alpha, 0.0)
    other = _local(scaled, ops) if isinstance(scaled, Made) else right
    ops.append(Sum(name="", inputs=(left.name, other.name), shape=left.extents))
    return Made(tuple(ops), left.axes)


def _local(result: Op | Made, ops: list[Op]) -> Translation:
    """Append operations that others of the same :class:`Made` will read; the last one's value."""
    made = result if isinstance(result, Made) else Made((result,))
    names: dict[str, str] = {}
    for op in made.ops:
        op.inputs = tuple(names.get(name, name) for name in op.inputs)
        local, op.name = op.name, f"\0{len(ops)}"
        names[local] = op.name
        ops.append(op)
    return Translation(op.name, op.shape, made.axes)


def _constant(value: Tensor | float) -> Tensor:
    """In float64, so that a chain of constants is rounded once."""
    return torch.as_tensor(value).detach().double()


def _by_channel(constant: Tensor | float, x: Translation) -> Tensor:
    """(C,) float64 of what is broadcast over a value as its readers see it."""
    values, seen_shape = _constant(constant), x.shape
    shape = (1,) * (len(seen_shape) + 1 - values.dim()) + tuple(values.shape)
    given = tuple(values.shape)
    reason = f"its constant of shape {given} does not fit {seen(x)}"
    if len(shape) > len(seen_shape) + 1:
        raise Unsupported(reason)
    values = values.reshape(shape)
    if shape[0] > 1:
        if not bool((values == values[:1]).all()):
            raise Unsupported("its constant differs from image to image")
        values = values[:1]
    if any(own not in (1, extent) for own, extent in zip(values.shape[1:], seen_shape, strict=True)):
        raise Unsupported(reason)
    if values.numel() == 1:
        return values.reshape(1).repeat(x.extents[0])
    place = x.channel_axis()
    if place is not None:
        columns = values[0].movedim(place, 0).reshape(values.shape[place + 1], -1)
        if not bool((columns == columns[:, :1]).all()):
            raise Unsupported(f"its constant of shape {given} differs by more than channels")
        return columns[:, 0].expand(x.extents[0]).contiguous()
    # Channels lie among other axes.
    order = x.order
    full = values.broadcast_to((1, *seen_shape)).reshape([x.extents[axis] for axis in order])
    columns = full.permute(sorted(range(len(order)), key=order.__getitem__)).reshape(x.extents[0], -1)
    if not bool((columns == columns[:, :1]).all()):
        raise Unsupported(f"its constant of shape {given} differs by more than channels")
    return columns[:, 0].contiguous()


def _limit(value: float | None) -> str:
    return "" if value is None else f"{value:g}"
