"""The arithmetic of fake quantizers in one pass over memory, compiled by torch.compile.

On a CPU most of the time of fake quantization is memory traffic: a division, a clamp, a rounding and a product are four
passes. Compiled they are one pass, forward and backward, with the same values. Compilation needs a C++ compiler and
about ten seconds, so it is off by default: see ``compile`` in the configuration of training and of reconstruction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor

#: Below this number of elements the call itself takes longer than its passes.
_WORTH = 4096
_enabled: ContextVar[bool] = ContextVar("fused", default=False)


def _forward(x: Tensor, step: Tensor, low: Tensor, high: Tensor) -> Tensor:
    scaled = torch.clamp(torch.div(x, step), low, high)
    return torch.trunc(scaled + torch.copysign(torch.full((), 0.5), scaled)) * step


def _backward(gradient: Tensor, x: Tensor, step: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    y = _forward(x, step, low, high)
    passed = torch.where((x >= low * step) & (x <= high * step), gradient, torch.zeros(()))
    return passed, (gradient * y - passed * x).sum()


_compiled: dict[str, Callable[..., Any]] = {}


@contextmanager
def fused(enabled: bool) -> Iterator[None]:
    """While the block runs, the compiled functions handle large tensors on a CPU; ``False`` changes nothing."""
    if enabled and not _compiled:
        _compiled.update(forward=torch.compile(_forward, dynamic=True), backward=torch.compile(_backward, dynamic=True))
    before = _enabled.set(enabled or _enabled.get())
    try:
        yield
    finally:
        _enabled.reset(before)


def suits(x: Tensor, step: Tensor) -> bool:
    """Whether the compiled functions apply: enabled, a large dense float32 tensor on a CPU, one step for all of it."""
    return (
        _enabled.get()
        and step.numel() == 1
        and x.numel() >= _WORTH
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and _is_dense(x)
    )


def quantized(x: Tensor, step: Tensor, low: int, high: int) -> Tensor:
    """``codes * step``, of the shape and layout of ``x``."""
    result: Tensor = _compiled["forward"](_flat(x), *_numbers(step, low, high))
    return _shaped(result, x)


def gradients(gradient: Tensor, x: Tensor, step: Tensor, low: int, high: int) -> tuple[Tensor, Tensor]:
    """The gradient of ``x``, and the sum of ``gradient * y - passed * x``: the gradient of the step, times the step."""
    if gradient.stride() != x.stride():
        gradient = torch.empty_like(x).copy_(gradient)
    passed, slope = _compiled["backward"](_flat(gradient), _flat(x), *_numbers(step, low, high))
    return _shaped(passed, x), slope


def _numbers(step: Tensor, low: int, high: int) -> tuple[Tensor, Tensor, Tensor]:
    # As tensors, so that one compilation serves every type.
    return step.detach().reshape(()), torch.tensor(float(low)), torch.tensor(float(high))


def _is_dense(x: Tensor) -> bool:
    """Whether the elements lie in memory without gaps, in one of two orders."""
    dense: bool = x.is_contiguous() or (x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last))
    return dense


def _flat(x: Tensor) -> Tensor:
    """All elements of a dense tensor in the order of memory, a view."""
    x = x.detach()
    return x.reshape(-1) if x.is_contiguous() else x.permute(0, 2, 3, 1).reshape(-1)


def _shaped(flat: Tensor, like: Tensor) -> Tensor:
    if like.is_contiguous():
        return flat.reshape(like.shape)
    n, c, h, w = like.shape
    return flat.reshape(n, h, w, c).permute(0, 3, 1, 2)
