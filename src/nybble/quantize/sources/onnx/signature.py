"""What the inputs of an operator may be; nodes are checked before a handler sees them."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

import numpy as np

from nybble.graph.types import Array
from nybble.quantize.ir.vocabulary import Stack, Translation, Unsupported
from nybble.quantize.ops.forms import OnnxForm
from nybble.quantize.ops.onnx_arguments import Value
from nybble.quantize.sources.onnx.model import OnnxNode

#: Numbers that lists of axes, sides and extents have at most.
_MOST = 32


def check(node: OnnxNode, inputs: Sequence[Value | None], form: OnnxForm) -> None:
    """Check that what a node reads has the number, types and dimensions that a handler relies on.

    Raises
    ------
    Unsupported
        Saying what does not fit the operator.
    """
    try:
        inspect.signature(form.handler).bind(node, *inputs)
    except TypeError:
        raise Unsupported(f"{len(inputs)} inputs are not those of the operator") from None
    for place, value in enumerate(inputs):
        if isinstance(value, Translation | Stack):
            if place in form.integers or place in form.numbers:
                raise Unsupported(f"its input {place} must be constant; simplify the file (onnxsim)")
        elif value is not None:
            _check_constant(form, place, value)
    if form.check is not None:
        form.check(node, inputs)


def _check_constant(form: OnnxForm, place: int, value: Array) -> None:
    if place in form.empty and not value.size:
        return
    if place in form.integers:
        if value.dtype.kind not in "iu" or value.size > _MOST or value.ndim > 1:
            raise Unsupported(f"its input {place} is not a list of integers")
        return
    if place in form.numbers:
        if value.size != 1:
            raise Unsupported(f"its input {place} must be one number, not {value.size}")
        if np.isnan(value).any():
            raise Unsupported(f"its constant input {place} is NaN")
        return
    if value.dtype.kind == "f" and not np.isfinite(value).all():
        raise Unsupported(f"its constant input {place} holds NaN or infinity")
    rank = form.ranks.get(place)
    if rank is not None and value.ndim != rank:
        raise Unsupported(f"its input {place} of shape {value.shape} must have {rank} dimensions")
    if not value.size:
        raise Unsupported(f"its constant input {place} is empty")
