"""What changes how readers see a value, or nothing at all."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nybble.quantize.ir import vocabulary
from nybble.quantize.ir.vocabulary import Result, Stack, Translation, Unsupported, value_of
from nybble.quantize.ops import onnx_batches as batches
from nybble.quantize.ops.aten_arguments import check_type
from nybble.quantize.ops.base import FloatOperation
from nybble.quantize.ops.examples import FloatExample, around
from nybble.quantize.ops.forms import Forms
from nybble.quantize.ops.onnx_arguments import Value, axes_of, constant_of
from nybble.quantize.ops.registry import register

forms = Forms()

_VIEWS = ("view.default", "reshape.default", "_unsafe_view.default", "flatten.using_ints", "unflatten.int")
#: Of TensorProto.DataType.
_FLOAT = 1


@forms.aten(
    "view.default", "reshape.default", "_unsafe_view.default", "flatten.using_ints", "unflatten.int", stacks=True
)
def _view(shape: tuple[int, ...], x: Translation | Stack, *_: Any) -> Result:
    return vocabulary.reshape_stack(x, shape) if isinstance(x, Stack) else vocabulary.reshape(x, shape)


@forms.aten("squeeze.default")
def _squeeze(shape: tuple[int, ...], x: Translation) -> Result:
    return vocabulary.squeeze(x, None)


@forms.aten("squeeze.dim", "squeeze.dims")
def _squeeze_some(shape: tuple[int, ...], x: Translation, dim: int | Sequence[int]) -> Result:
    return vocabulary.squeeze(x, [dim] if isinstance(dim, int) else dim)


@forms.aten("unsqueeze.default")
def _unsqueeze(shape: tuple[int, ...], x: Translation, dim: int) -> Result:
    return vocabulary.unsqueeze(x, dim)


@forms.aten("permute.default")
def _permute(shape: tuple[int, ...], x: Translation, dims: Sequence[int]) -> Result:
    return vocabulary.permute(x, dims)


@forms.aten("transpose.int")
def _transpose(shape: tuple[int, ...], x: Translation, first: int, second: int) -> Result:
    order = list(range(len(shape) + 1))
    order[first], order[second] = order[second], order[first]
    return vocabulary.permute(x, order)


@forms.aten("expand.default")
def _expand(shape: tuple[int, ...], x: Translation, *_: Any, implicit: bool = False) -> Result:
    return vocabulary.expand(x, shape)


@forms.aten("dropout.default", "feature_dropout.default", "alpha_dropout.default", "native_dropout.default")
def _dropout(shape: tuple[int, ...], x: Translation, rate: float = 0.5, train: bool | None = False) -> Result:
    if train:
        raise Unsupported("dropout is active even in evaluation mode; tie it to module.training")
    return x


@forms.aten("clone.default", "detach.default", "alias.default", "contiguous.default", "lift_fresh_copy.default")
def _same(shape: tuple[int, ...], x: Translation, *, memory_format: Any = None) -> Result:
    return x


@forms.aten("_to_copy.default", "to.dtype", "to.dtype_layout", "to.device", "to.other", "type_as.default")
def _cast(shape: tuple[int, ...], x: Any, *args: Any, dtype: Any = None, **_: Any) -> Result:
    for entry in (dtype, *args):
        check_type(entry.dtype if isinstance(entry, Tensor) else entry)
    return value_of(x)


@forms.aten("zeros_like.default", "new_zeros.default")
def _zeros(shape: tuple[int, ...], x: Translation, *_: Any, **__: Any) -> Result:
    return torch.zeros(1, *shape)


@forms.aten("ones_like.default", "new_ones.default")
def _ones(shape: tuple[int, ...], x: Translation, *_: Any, **__: Any) -> Result:
    return torch.ones(1, *shape)


@forms.onnx("Flatten")
def _onnx_flatten(node: Any, x: Value) -> Result:
    x = value_of(x)
    if node.get("axis", 1) not in (1, -len(x.shape)):
        raise Unsupported("only flattening from axis 1 on has a counterpart")
    return vocabulary.reshape(x, (math.prod(x.shape),))


@forms.onnx("Reshape", integers=(1,), per_image=batches.reshape_one)
def _onnx_reshape(node: Any, x: Value, target: Value) -> Result:
    """The reader says the new shape for one image, its extents resolved."""
    wanted: list[int] = constant_of(target, "the new shape").reshape(-1).tolist()
    if isinstance(x, Stack):
        return vocabulary.reshape_stack(x, wanted[1:])
    return vocabulary.reshape(value_of(x), wanted[1:])


@forms.onnx("Transpose")
def _onnx_transpose(node: Any, x: Value) -> Result:
    x = value_of(x)
    return vocabulary.permute(x, node.get("perm", list(range(len(x.shape) + 1))[::-1]))


@forms.onnx("Squeeze", integers=(1,), per_image=batches.squeeze_one)
def _onnx_squeeze(node: Any, x: Value, axes: Value | None = None) -> Result:
    x = value_of(x)
    given = axes_of(node, axes)
    if any(x.shape[x.axis(axis)] != 1 for axis in given):
        raise Unsupported("only axes of 1 can be squeezed")
    return vocabulary.squeeze(x, given)


@forms.onnx("Unsqueeze", integers=(1,))
def _onnx_unsqueeze(node: Any, x: Value, axes: Value | None = None) -> Result:
    x = value_of(x)
    given = axes_of(node, axes)
    rank = len(x.shape) + 1 + len(given)
    result: Translation | Stack = x
    for axis in sorted(axis % rank for axis in given):
        result = vocabulary.unsqueeze(value_of(result), axis)
    return result


@forms.onnx("Expand", integers=(1,))
def _onnx_expand(node: Any, x: Value, target: Value) -> Result:
    """The longer shape of both, from the right."""
    x = value_of(x)
    wanted = constant_of(target, "the new shape").reshape(-1).tolist()
    own = (node.batch, *x.shape)
    wanted = [1] * (len(own) - len(wanted)) + wanted
    if len(wanted) != len(own) or wanted[0] not in (1, node.batch):
        raise Unsupported(f"it cannot be expanded to {wanted}; only along rows and columns")
    if any(pair[0] < 1 or (1 not in pair and pair[0] != pair[1]) for pair in zip(wanted, own, strict=True)):
        raise Unsupported(f"it does not expand to {wanted}")
    return vocabulary.expand(x, [max(pair) for pair in zip(wanted[1:], x.shape, strict=True)])


@forms.onnx("Identity")
def _onnx_identity(node: Any, x: Value) -> Result:
    return value_of(x)


@forms.onnx("Dropout", numbers=(1, 2))
def _onnx_dropout(node: Any, x: Value, rate: Value | None = None, training: Value | None = None) -> Result:
    x = value_of(x)
    if training is not None and bool(constant_of(training, "its mode").any()):
        raise Unsupported("export the network in evaluation mode")
    return x


@forms.onnx("Cast")
def _onnx_cast(node: Any, x: Value) -> Result:
    x = value_of(x)
    if node.get("to") != _FLOAT:
        raise Unsupported("the network must compute in float32: take the cast out before exporting it")
    return x


@forms.onnx("Shape")
def _onnx_shape(node: Any, x: Value) -> Result:
    x = value_of(x)
    # Of the batch that the reader assumes: what is computed from it is the new shape of a Reshape, which the reader
    # holds against that batch.
    full = np.array((node.batch, *x.shape), np.int64)
    return full[slice(node.get("start", 0), node.get("end"))]


class Views(FloatOperation):
    """No operation: readers see the same value in another shape."""

    forms = forms

    def examples(self) -> Iterator[FloatExample]:
        """Cover rows and columns that change places and back."""
        yield around("transposed", lambda: lambda x: functional.relu(x).permute(0, 2, 3, 1).permute(0, 3, 1, 2))


register(Views())
