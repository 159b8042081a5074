"""Layers, batch norm, activation functions and constants of ATen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from nybble.graph import Padding
from nybble.quantize.ir import vocabulary
from nybble.quantize.ir.vocabulary import Result, Translation, Unsupported, value_of
from nybble.quantize.sources.pytorch.aten.handlers import handles, pair_of, sides_of

# Layers


@handles("conv2d.default", "conv2d.padding")
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


@handles("convolution.default")
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
    if transposed:
        raise Unsupported("transposed convolutions have no integer form; classifiers need none")
    return _conv2d(shape, x, weight, bias, stride, padding, dilation, groups)


@handles("linear.default")
def _linear(shape: tuple[int, ...], x: Any, weight: Any, bias: Any = None) -> Result:
    return vocabulary.dense(value_of(x), weight, bias)


@handles("matmul.default", "mm.default")
def _matmul(shape: tuple[int, ...], x: Any, matrix: Any) -> Result:
    return vocabulary.matmul(x, matrix)


@handles("addmm.default")
def _addmm(shape: tuple[int, ...], bias: Any, x: Any, matrix: Any, *, beta: float = 1, alpha: float = 1) -> Result:
    if not isinstance(bias, Tensor):
        raise Unsupported("biases of a linear layer are computed from the image; they must be constant")
    scaled = matrix * alpha if isinstance(matrix, Tensor) else matrix
    return vocabulary.matmul(x, scaled, (bias * beta).expand(shape[-1]) if bias.dim() < 2 else bias * beta)


@handles("_native_batch_norm_legit_no_training.default")
def _batch_norm(
    shape: tuple[int, ...], x: Any, gain: Any, offset: Any, mean: Any, variance: Any, momentum: float, eps: float
) -> Result:
    return vocabulary.batch_norm(value_of(x), gain, offset, mean, variance, eps)


# Element by element


@handles("relu.default")
def _relu(shape: tuple[int, ...], x: Translation) -> Result:
    return vocabulary.clip(x, 0.0, None)


@handles("relu6.default")
def _relu6(shape: tuple[int, ...], x: Translation) -> Result:
    return vocabulary.clip(x, 0.0, 6.0)


@handles("hardtanh.default")
def _hardtanh(shape: tuple[int, ...], x: Translation, min_val: float = -1.0, max_val: float = 1.0) -> Result:
    return vocabulary.clip(x, min_val, max_val)


# Arguments are called as ATen calls them.
@handles("clamp.default", "clamp.Tensor", "clip.default", "clip.Tensor")
def _clamp(shape: tuple[int, ...], x: Any, min: Any = None, max: Any = None) -> Result:  # noqa: A002
    low, high = (None if bound is None else _bound(bound) for bound in (min, max))
    return vocabulary.clip(value_of(x), low, high)


@handles("clamp_min.default", "clamp_min.Tensor")
def _clamp_min(shape: tuple[int, ...], x: Any, min: Any) -> Result:  # noqa: A002
    return vocabulary.clip(value_of(x), _bound(min), None)


@handles("clamp_max.default", "clamp_max.Tensor")
def _clamp_max(shape: tuple[int, ...], x: Any, max: Any) -> Result:  # noqa: A002
    return vocabulary.clip(value_of(x), None, _bound(max))


@handles("maximum.default", "max.other", "fmax.default")
def _maximum(shape: tuple[int, ...], left: Any, right: Any) -> Result:
    x, bound = _with_bound(left, right, shape)
    return vocabulary.clip(x, bound, None)


@handles("minimum.default", "min.other", "fmin.default")
def _minimum(shape: tuple[int, ...], left: Any, right: Any) -> Result:
    x, bound = _with_bound(left, right, shape)
    return vocabulary.clip(x, None, bound)


def _with_bound(left: Any, right: Any, shape: tuple[int, ...]) -> tuple[Translation, float]:
    x, bound = (left, right) if isinstance(left, Translation) else (right, left)
    if isinstance(bound, Translation):
        raise Unsupported("two values cannot be compared; a limit must be constant")
    if x.shape != shape:
        raise Unsupported("a limit must not enlarge what it limits")
    return x, vocabulary.bound_of(bound)


def _bound(value: Any) -> float:
    if isinstance(value, Translation):
        raise Unsupported("a limit is computed from the image; it must be constant")
    return vocabulary.bound_of(value)


@handles("threshold.default")
def _threshold(shape: tuple[int, ...], x: Translation, threshold: float, value: float) -> Result:
    if threshold != 0 or value != 0:
        raise Unsupported(
            f"a threshold at {threshold} with {value} has no integer form; only one at 0 with 0 (ReLU) has"
        )
    return vocabulary.clip(x, 0.0, None)


@handles("add.Tensor", "add.Scalar")
def _add(shape: tuple[int, ...], left: Any, right: Any, alpha: float = 1) -> Result:
    return vocabulary.add(left, right, alpha)


@handles("sub.Tensor", "sub.Scalar", "subtract.Tensor")
def _sub(shape: tuple[int, ...], left: Any, right: Any, alpha: float = 1) -> Result:
    return vocabulary.subtract(left, right, alpha)


@handles("rsub.Tensor", "rsub.Scalar")
def _rsub(shape: tuple[int, ...], left: Any, right: Any, alpha: float = 1) -> Result:
    return vocabulary.subtract(right, left, alpha)


@handles("mul.Tensor", "mul.Scalar", "multiply.Tensor")
def _mul(shape: tuple[int, ...], left: Any, right: Any) -> Result:
    return vocabulary.multiply(left, right)


@handles("div.Tensor", "div.Scalar", "true_divide.Tensor", "div.Tensor_mode")
def _div(shape: tuple[int, ...], left: Any, right: Any, rounding_mode: str | None = None) -> Result:
    if rounding_mode is not None:
        raise Unsupported(f"a division that rounds ({rounding_mode}) has no integer form; divide without rounding")
    return vocabulary.divide(left, right)


@handles("neg.default")
def _neg(shape: tuple[int, ...], x: Translation) -> Result:
    return vocabulary.negate(x)


@handles("softmax.int", "_softmax.default")
def _softmax(shape: tuple[int, ...], x: Translation, dim: int, dtype: Any = None) -> Result:
    return vocabulary.softmax(x, dim)


@handles("log_softmax.int", "_log_softmax.default")
def _log_softmax(shape: tuple[int, ...], x: Translation, dim: int, dtype: Any = None) -> Result:
    return vocabulary.softmax(x, dim, log=True)
