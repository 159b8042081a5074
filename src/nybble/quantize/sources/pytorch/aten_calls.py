"""The meaning of each call of an ATen operation in the vocabulary of float networks."""

from __future__ import annotations

from typing import Any

import torch

from nybble.quantize.ir.vocabulary import Result, Results, Unsupported, remedies
from nybble.quantize.ops import aten_forms

#: Operations without a result that is used.
IGNORED = (torch.ops.aten._assert_tensor_metadata.default, torch.ops.aten._assert_scalar.default)

_REMEDIES = {
    "glu": remedies.ACTIVATION,
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
    "constants by channel, ReLU, SiLU and other functions of one number, additions, products, concatenations of "
    "channels, max and average pools, flattening, zero padding and strided slices"
)


def translate(target: str, args: tuple[Any, ...], kwargs: dict[str, Any], shape: tuple[int, ...]) -> Result | Results:
    """The operations of a call, or the value itself if it changes nothing; a list for a call with several results.

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
        Naming the unsupported operation and the remedy.
    """
    forms = aten_forms(target.removeprefix("aten."))
    kwargs = {name: value for name, value in kwargs.items() if value is not None}
    for form in forms:
        try:
            bound = form.signature.bind(shape, *args, **kwargs)
        except TypeError:
            # Only the arguments are checked here: an exception of a handler is a bug in nybble.
            raise Unsupported("these arguments are not those of the operation") from None
        result: Result | Results | None = form.handler(*bound.args, **bound.kwargs)
        if result is not None:
            return result
    name = target.removeprefix("aten.").split(".")[0].strip("_")
    raise Unsupported(_REMEDIES.get(name, _SUPPORTED))


def reads_stacks(target: str) -> bool:
    """Whether an ATen operation takes values that are stacked on a new axis."""
    return any(form.stacks for form in aten_forms(target.removeprefix("aten.")))
