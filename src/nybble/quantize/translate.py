"""What each ATen operation stands for in the vocabulary of float networks."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from nybble.graph import Padding, Pair
from nybble.quantize import vocabulary
from nybble.quantize.vocabulary import Result, Translation, Unsupported, value_of

#: Operations without a result that is used.
IGNORED = (torch.ops.aten._assert_tensor_metadata.default, torch.ops.aten._assert_scalar.default)

Handler = Callable[..., Result]
_HANDLERS: dict[str, Handler] = {}
_SIGNATURES: dict[str, inspect.Signature] = {}

_ACTIVATIONS = "celu elu gelu glu hardsigmoid hardswish leaky_relu mish prelu selu sigmoid silu softplus tanh"
_REMEDIES = {
    **dict.fromkeys(_ACTIVATIONS.split(), "replace the activation by ReLU or ReLU6 and train the network on"),
    **dict.fromkeys(
        ("group_norm", "instance_norm", "layer_norm", "native_layer_norm", "native_group_norm"),
        "only batch norm can be folded into layers; use a network with batch norm",
    ),
    **dict.fromkeys(
        ("scaled_dot_product_attention", "bmm", "einsum"), "attention has no integer form; use a convolutional network"
    ),
}
_SUPPORTED = (
    "replace it, or leave it out of the module: a network may consist of convolutions, linear layers, batch norm, "
    "constants by channel, ReLU and ReLU6, additions, concatenations of channels, max and average pools, flattening, "
    "zero padding and strided slices"
)


def translate(target: str, args: tuple[Any, ...], kwargs: dict[str, Any], shape: tuple[int, ...]) -> Result:
    """The operations that a call stands for, or the value itself where it changes nothing.

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
    Unsupported
        Saying what is not supported, and what to do.
    """
    handler = _HANDLERS.get(target)
    if handler is None:
        name = target.removeprefix("aten.").split(".")[0].strip("_")
        raise Unsupported(_REMEDIES.get(name, _SUPPORTED))
    kwargs = {name: value for name, value in kwargs.items() if value is not None}
    try:
        bound = _SIGNATURES[target].bind(shape, *args, **kwargs)
    except TypeError:
        # Only the arguments are in question here: what a handler raises is a bug of ours.
        raise Unsupported("these arguments are not those of the operation") from None
    return handler(*bound.args, **bound.kwargs)


def _handles(*targets: str) -> Callable[[Handler], Handler]:
    def register(handler: Handler) -> Handler:
        signature = inspect.signature(handler)
        for target in targets:
            _HANDLERS[f"aten.{target}"] = handler
            _SIGNATURES[f"aten.{target}"] = signature
        return handler

    return register


def _pair(value: int | Sequence[int]) -> Pair:
    if isinstance(value, int):
        return Pair(value, value)
    return Pair(value[0], value[-1])


def _sides(value: int | Sequence[int]) -> Padding:
    rows, columns = _pair(value)
    return Padding(rows, columns, rows, columns)


# Layers


@_handles("conv2d.default", "conv2d.padding")
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
    spread = _pair(dilation)
    if padding == "same" and isinstance(weight, Tensor):
        total = [step * (extent - 1) for step, extent in zip(spread, weight.shape[2:], strict=True)]
        top, left = total[0] // 2, total[1] // 2
        sides = Padding(top, left, total[0] - top, total[1] - left)
    else:
        sides = Padding() if isinstance(padding, str) else _sides(padding)
    return vocabulary.conv(value_of(x), weight, bias, _pair(stride), sides, spread, groups)


@_handles("convolution.default")
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


@_handles("linear.default")
def _linear(shape: tuple[int, ...], x: Any, weight: Any, bias: Any = None) -> Result:
    return vocabulary.dense(value_of(x), weight, bias)


@_handles("matmul.default", "mm.default")
def _matmul(shape: tuple[int, ...], x: Any, matrix: Any) -> Result:
    return vocabulary.matmul(x, matrix)


@_handles("addmm.default")
def _addmm(shape: tuple[int, ...], bias: Any, x: Any, matrix: Any, *, beta: float = 1, alpha: float = 1) -> Result:
    if not isinstance(bias, Tensor):
        raise Unsupported("biases of a linear layer are computed from the image; they must be constant")
    scaled = matrix * alpha if isinstance(matrix, Tensor) else matrix
    return vocabulary.matmul(x, scaled, (bias * beta).expand(shape[-1]) if bias.dim() < 2 else bias * beta)


@_handles("_native_batch_norm_legit_no_training.default")
def _batch_norm(
    shape: tuple[int, ...], x: Any, gain: Any, offset: Any, mean: Any, variance: Any, momentum: float, eps: float
) -> Result:
    return vocabulary.batch_norm(value_of(x), gain, offset, mean, variance, eps)


# Element by element


@_handles("relu.default")
def _relu(shape: tuple[int, ...], x: Translation) -> Result:
    return vocabulary.clip(x, 0.0, None)


@_handles("relu6.default")
def _relu6(shape: tuple[int, ...], x: Translation) -> Result:
    return vocabulary.clip(x, 0.0, 6.0)


@_handles("hardtanh.default")
def _hardtanh(shape: tuple[int, ...], x: Translation, min_val: float = -1.0, max_val: float = 1.0) -> Result:
    return vocabulary.clip(x, min_val, max_val)


# Arguments are called as ATen calls them.
@_handles("clamp.default", "clamp.Tensor", "clip.default", "clip.Tensor")
def _clamp(shape: tuple[int, ...], x: Any, min: Any = None, max: Any = None) -> Result:  # noqa: A002
    low, high = (None if bound is None else _bound(bound) for bound in (min, max))
    return vocabulary.clip(value_of(x), low, high)


@_handles("clamp_min.default", "clamp_min.Tensor")
def _clamp_min(shape: tuple[int, ...], x: Any, min: Any) -> Result:  # noqa: A002
    return vocabulary.clip(value_of(x), _bound(min), None)


@_handles("clamp_max.default", "clamp_max.Tensor")
def _clamp_max(shape: tuple[int, ...], x: Any, max: Any) -> Result:  # noqa: A002
    return vocabulary.clip(value_of(x), None, _bound(max))


@_handles("maximum.default", "max.other", "fmax.default")
def _maximum(shape: tuple[int, ...], left: Any, right: Any) -> Result:
    x, bound = _with_bound(left, right, shape)
    return vocabulary.clip(x, bound, None)


@_handles("minimum.default", "min.other", "fmin.default")
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


@_handles("threshold.default")
def _threshold(shape: tuple[int, ...], x: Translation, threshold: float, value: float) -> Result:
    if threshold != 0 or value != 0:
        raise Unsupported(
            f"a threshold at {threshold} with {value} has no integer form; only one at 0 with 0 (ReLU) has"
        )
    return vocabulary.clip(x, 0.0, None)


@_handles("add.Tensor", "add.Scalar")
def _add(shape: tuple[int, ...], left: Any, right: Any, alpha: float = 1) -> Result:
    return vocabulary.add(left, right, alpha)


@_handles("sub.Tensor", "sub.Scalar", "subtract.Tensor")
def _sub(shape: tuple[int, ...], left: Any, right: Any, alpha: float = 1) -> Result:
    return vocabulary.subtract(left, right, alpha)


@_handles("rsub.Tensor", "rsub.Scalar")
def _rsub(shape: tuple[int, ...], left: Any, right: Any, alpha: float = 1) -> Result:
    return vocabulary.subtract(right, left, alpha)


@_handles("mul.Tensor", "mul.Scalar", "multiply.Tensor")
def _mul(shape: tuple[int, ...], left: Any, right: Any) -> Result:
    return vocabulary.multiply(left, right)


@_handles("div.Tensor", "div.Scalar", "true_divide.Tensor", "div.Tensor_mode")
def _div(shape: tuple[int, ...], left: Any, right: Any, rounding_mode: str | None = None) -> Result:
    if rounding_mode is not None:
        raise Unsupported(f"a division that rounds ({rounding_mode}) has no integer form; divide without rounding")
    return vocabulary.divide(left, right)


@_handles("neg.default")
def _neg(shape: tuple[int, ...], x: Translation) -> Result:
    return vocabulary.negate(x)


@_handles("softmax.int", "_softmax.default")
def _softmax(shape: tuple[int, ...], x: Translation, dim: int, dtype: Any = None) -> Result:
    return vocabulary.softmax(x, dim)


@_handles("log_softmax.int", "_log_softmax.default")
def _log_softmax(shape: tuple[int, ...], x: Translation, dim: int, dtype: Any = None) -> Result:
    return vocabulary.softmax(x, dim, log=True)


# Pools


@_handles("max_pool2d.default", "max_pool2d_with_indices.default")
def _max_pool(
    shape: tuple[int, ...],
    x: Translation,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    ceil_mode: bool = False,
) -> Result:
    window = _pair(kernel_size)
    return vocabulary.max_pool(x, window, _pair(stride or window), _sides(padding), _pair(dilation), ceil_mode)


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
) -> Result:
    if divisor_override is not None:
        raise Unsupported("an average pool with divisor_override has no integer form; multiply by a constant instead")
    window = _pair(kernel_size)
    return vocabulary.average_pool(x, window, _pair(stride or window), _sides(padding), ceil_mode, count_include_pad)


@_handles("adaptive_avg_pool2d.default", "_adaptive_avg_pool2d.default")
def _adaptive(shape: tuple[int, ...], x: Translation, size: Sequence[int]) -> Result:
    return vocabulary.adaptive_pool(x, shape[1:])


@_handles("adaptive_max_pool2d.default")
def _adaptive_max(shape: tuple[int, ...], x: Translation, size: Sequence[int]) -> Result:
    return vocabulary.adaptive_pool(x, shape[1:], largest=True)


@_handles("mean.dim")
def _mean(
    shape: tuple[int, ...], x: Translation, dim: Sequence[int] | None, keepdim: bool = False, *, dtype: Any = None
) -> Result:
    _check_type(dtype)
    return vocabulary.mean(x, dim, keepdim)


@_handles("sum.dim_IntList")
def _sum(
    shape: tuple[int, ...], x: Translation, dim: Sequence[int] | None, keepdim: bool = False, *, dtype: Any = None
) -> Result:
    _check_type(dtype)
    return vocabulary.total(x, dim, keepdim)


@_handles("amax.default")
def _amax(shape: tuple[int, ...], x: Translation, dim: Sequence[int] = (), keepdim: bool = False) -> Result:
    return vocabulary.largest(x, dim, keepdim)


@_handles("max.dim")
def _max_dim(shape: tuple[int, ...], x: Translation, dim: int, keepdim: bool = False) -> Result:
    return vocabulary.largest(x, [dim], keepdim)


# Views


@_handles("view.default", "reshape.default", "_unsafe_view.default", "flatten.using_ints", "unflatten.int")
def _view(shape: tuple[int, ...], x: Translation, *_: Any) -> Result:
    return vocabulary.reshape(x, shape)


@_handles("squeeze.default")
def _squeeze(shape: tuple[int, ...], x: Translation) -> Result:
    return vocabulary.squeeze(x, None)


@_handles("squeeze.dim", "squeeze.dims")
def _squeeze_some(shape: tuple[int, ...], x: Translation, dim: int | Sequence[int]) -> Result:
    return vocabulary.squeeze(x, [dim] if isinstance(dim, int) else dim)


@_handles("unsqueeze.default")
def _unsqueeze(shape: tuple[int, ...], x: Translation, dim: int) -> Result:
    return vocabulary.unsqueeze(x, dim)


@_handles("permute.default")
def _permute(shape: tuple[int, ...], x: Translation, dims: Sequence[int]) -> Result:
    return vocabulary.permute(x, dims)


@_handles("transpose.int")
def _transpose(shape: tuple[int, ...], x: Translation, first: int, second: int) -> Result:
    order = list(range(len(shape) + 1))
    order[first], order[second] = order[second], order[first]
    return vocabulary.permute(x, order)


@_handles("expand.default")
def _expand(shape: tuple[int, ...], x: Translation, *_: Any, implicit: bool = False) -> Result:
    if shape != x.shape:
        raise Unsupported("a value cannot be expanded along rows and columns")
    return x


@_handles("select.int")
def _select(shape: tuple[int, ...], x: Translation, dim: int, index: int) -> Result:
    return vocabulary.select(x, dim, index)


@_handles("index.Tensor")
def _index(shape: tuple[int, ...], x: Any, indices: Sequence[Any]) -> Result:
    given = [entry for entry in indices if entry is not None]
    if len(given) != 1 or not isinstance(given[0], Tensor) or given[0].dim() != 1 or given[0].is_floating_point():
        raise Unsupported("only a list of channels can be picked out")
    chosen = given[0].nonzero().flatten() if given[0].dtype is torch.bool else given[0]
    axis = next(place for place, entry in enumerate(indices) if entry is not None)
    return _picked(value_of(x), axis, chosen)


@_handles("index_select.default")
def _index_select(shape: tuple[int, ...], x: Any, dim: int, index: Tensor) -> Result:
    return _picked(value_of(x), dim, index)


@_handles("flip.default")
def _flip(shape: tuple[int, ...], x: Translation, dims: Sequence[int]) -> Result:
    if len(dims) != 1:
        raise Unsupported("only the order of channels can be turned round")
    return _picked(x, dims[0], torch.arange(x.shape[x.axis(dims[0])]).flip(0))


def _picked(x: Translation, axis: int, channels: Tensor) -> Result:
    count = x.shape[x.axis(axis)]
    return vocabulary.pick(x, axis, [channel % count for channel in channels.reshape(-1).tolist()])


@_handles("slice.Tensor")
def _slice(
    shape: tuple[int, ...],
    x: Translation,
    dim: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> Result:
    axis = dim % (len(x.shape) + 1)
    if axis == 0:
        if start in (None, 0) and step == 1 and (end is None or end > _MANY):
            return x
        raise Unsupported("a slice must leave the batch (axis 0) alone")
    size, result = x.shape[axis - 1], shape[axis - 1]
    if size == result and step == 1:
        return x
    if axis == 1 and len(x.shape) == 3:
        return vocabulary.pick(x, 1, range(size)[start:end:step])
    if axis not in (2, 3) or start not in (None, 0):
        raise Unsupported("only slices of rows and columns that start at 0 can be taken")
    if result != -(-size // step):
        raise Unsupported("only slices that go to the end can be taken")
    return vocabulary.skip(x, Pair(step, 1) if axis == 2 else Pair(1, step))


#: Ends of slices beyond it mean the end, whatever the batch.
_MANY = 1 << 31


@_handles("pad.default", "constant_pad_nd.default")
def _pad(
    shape: tuple[int, ...], x: Translation, sides: Sequence[int], mode: Any = "constant", value: Any = None
) -> Result:
    filling = value if isinstance(mode, str) else mode
    if isinstance(mode, str) and mode != "constant":
        raise Unsupported(f"only zeros can be put around images, not padding in mode {mode!r}")
    if filling not in (None, 0):
        raise Unsupported(f"only zeros can be put around images, not {filling}")
    given = [*sides, *[0] * (6 - len(sides))]
    if len(given) > 6 or min(given) < 0 or len(x.shape) != 3:
        raise Unsupported(f"only zeros can be put around images (N, C, H, W), not padding by {list(sides)}")
    left, right, top, bottom, before, after = given
    return vocabulary.pad(x, Padding(top, left, bottom, right), (before, after))


@_handles("cat.default")
def _cat(shape: tuple[int, ...], values: Sequence[Any], dim: int = 0) -> Result:
    return vocabulary.concat(values, dim)


# What changes nothing


@_handles("dropout.default", "feature_dropout.default", "alpha_dropout.default", "native_dropout.default")
def _dropout(shape: tuple[int, ...], x: Translation, rate: float = 0.5, train: bool | None = False) -> Result:
    if train:
        raise Unsupported("dropout is active even in evaluation mode; tie it to module.training")
    return x


@_handles("clone.default", "detach.default", "alias.default", "contiguous.default", "lift_fresh_copy.default")
def _same(shape: tuple[int, ...], x: Translation, *, memory_format: Any = None) -> Result:
    return x


@_handles("_to_copy.default", "to.dtype", "to.dtype_layout", "to.device", "to.other", "type_as.default")
def _cast(shape: tuple[int, ...], x: Any, *args: Any, dtype: Any = None, **_: Any) -> Result:
    for entry in (dtype, *args):
        _check_type(entry.dtype if isinstance(entry, Tensor) else entry)
    return value_of(x)


def _check_type(dtype: Any) -> None:
    if isinstance(dtype, torch.dtype) and dtype is not torch.float32:
        raise Unsupported(f"it converts to {dtype}; the network must compute in float32")


@_handles("zeros_like.default", "new_zeros.default")
def _zeros(shape: tuple[int, ...], x: Translation, *_: Any, **__: Any) -> Result:
    return torch.zeros(1, *shape)


@_handles("ones_like.default", "new_ones.default")
def _ones(shape: tuple[int, ...], x: Translation, *_: Any, **__: Any) -> Result:
    return torch.ones(1, *shape)
