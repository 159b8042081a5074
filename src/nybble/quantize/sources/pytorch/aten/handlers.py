"""What handlers of ATen operations share. A handler gets the result's shape and a call's arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch

from nybble.graph import Padding, Pair
from nybble.quantize.ir.vocabulary import Result, Results, Unsupported, remedies

#: Operations without a result that is used.
IGNORED = (torch.ops.aten._assert_tensor_metadata.default, torch.ops.aten._assert_scalar.default)

Handler = Callable[..., Result | Results]
_HANDLERS: dict[str, Handler] = {}
_SIGNATURES: dict[str, inspect.Signature] = {}

_ACTIVATIONS = "celu elu gelu glu hardswish leaky_relu mish prelu selu silu softplus tanh"
_REMEDIES = {
    **dict.fromkeys(_ACTIVATIONS.split(), remedies.ACTIVATION),
    **dict.fromkeys(("sigmoid", "hardsigmoid", "log_sigmoid"), remedies.SIGMOID),
    **dict.fromkeys(
        ("group_norm", "instance_norm", "layer_norm", "native_layer_norm", "native_group_norm"), remedies.NORM
    ),
    **dict.fromkeys(("argmax", "topk", "sort", "argsort"), remedies.CHOICE),
    **dict.fromkeys(
        ("scaled_dot_product_attention", "bmm", "einsum"), "attention has no integer form; use a convolutional network"
    ),
}
_SUPPORTED = (
    "replace it, or leave it out of the module: a network may consist of convolutions, linear layers, batch norm, "
    "constants by channel, ReLU and ReLU6, additions, concatenations of channels, max and average pools, flattening, "
    "zero padding and strided slices"
)


def translate(target: str, args: tuple[Any, ...], kwargs: dict[str, Any], shape: tuple[int, ...]) -> Result | Results:
    """The operations that a call stands for, or the value itself where it changes nothing; several for several results.

    Parameters
    ----------
    target : str
        The ATen operation, such as ``aten.conv2d.default``.
    args, kwargs
        Its arguments; values that depend on the input as :class:`Translation`, constants as tensors and numbers.
    shape : tuple of int
        Of the result, or the first of several, without the batch.

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


def handles(*targets: str) -> Callable[[Handler], Handler]:
    """Register what follows for operations, each with its overload."""

    def register(handler: Handler) -> Handler:
        signature = inspect.signature(handler)
        for target in targets:
            _HANDLERS[f"aten.{target}"] = handler
            _SIGNATURES[f"aten.{target}"] = signature
        return handler

    return register


def pair_of(value: int | Sequence[int]) -> Pair:
    """Rows and columns, of one number for both or of two."""
    if isinstance(value, int):
        return Pair(value, value)
    return Pair(value[0], value[-1])


def sides_of(value: int | Sequence[int]) -> Padding:
    """The same padding on opposite sides."""
    rows, columns = pair_of(value)
    return Padding(rows, columns, rows, columns)


def check_type(dtype: Any) -> None:
    """Unsupported where a type is asked for that is not float32."""
    if isinstance(dtype, torch.dtype) and dtype is not torch.float32:
        raise Unsupported(
            f"it converts to {dtype}; the network must compute in float32: take the cast, or autocast, out"
        )
