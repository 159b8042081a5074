"""Fake quantizers: rounding to integer codes and back in floating point, with a gradient.

Codes are what the integer network holds: symmetric, zero point 0, ties away from zero. In the backward pass rounding
has the gradient of the identity, and clipping its own gradient: the straight-through estimator (Bengio, Leonard and
Courville 2013; Krishnamoorthi 2018). With method ``lsq`` the step is a learned parameter (Esser et al. 2020).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from nybble.graph import DType
from nybble.graph.types import Array
from nybble.quantize.errors import QuantizeError
from nybble.quantize.fake import fused

Mode = Literal["float", "clip", "quantize"]
Method = Literal["ste", "lsq"]

#: Least range of a channel, as a share of the widest channel's range. A nearly silent channel keeps its bias, which in
#: finer steps would need more than 32 bits.
CHANNEL_FLOOR = 2.0**-12
#: Smallest step that a learned one may shrink to.
SMALLEST_STEP = 1e-12
#: A positive number next to 0 in float32.
_TINY = 2.0**-126


def round_away(x: Tensor) -> Tensor:
    """Round to the nearest integer, ties away from zero, in place."""
    return x.add_(torch.copysign(torch.full((), 0.5, dtype=x.dtype, device=x.device), x)).trunc_()


def codes(x: Tensor, step: Tensor, low: int, high: int) -> Tensor:
    """Integer codes of ``x`` as float32: ``x / step`` rounded, clamped to ``low..high``. No gradient."""
    scaled = torch.div(x.detach().float(), step.detach()).clamp_(low, high)
    return scaled.add_(0.5).floor_() if low == 0 else round_away(scaled)


def _passed(gradient: Tensor, x: Tensor, step: Tensor, low: int, high: int) -> Tensor:
    """The gradient where ``x`` lies in ``low * step..high * step``, zero elsewhere."""
    if x.device.type == "cpu" and step.numel() == 1:
        # One pass over memory, where comparisons and a product take four. It excludes the ends, so they are moved by
        # one float32 step.
        first, last = (float(bound * step) * (1 + 2.0**-23) for bound in (low, high))
        passed: Tensor = torch.ops.aten.hardtanh_backward(gradient, x.to(gradient.dtype), first - _TINY, last)
        return passed
    return gradient * ((x >= low * step) & (x <= high * step))


class _FakeQuantize(torch.autograd.Function):
    """``codes * step``. Backward: the gradient where ``x / step`` lies in ``low..high``, zero elsewhere."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, step: Tensor, low: int, high: int) -> Tensor:
        ctx.save_for_backward(x, step)
        ctx.range = low, high
        if fused.suits(x, step):
            return fused.quantized(x, step, low, high)
        return codes(x, step, low, high).mul_(step)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        x, step = ctx.saved_tensors
        low, high = ctx.range
        if fused.suits(x, step):
            return fused.gradients(gradients[0], x, step, low, high)[0], None, None, None
        return _passed(gradients[0], x, step, low, high).to(x.dtype), None, None, None


class _LearnedStep(torch.autograd.Function):
    """As :class:`_FakeQuantize`, with the step's gradient of Esser et al. 2020, equation 3, times ``share``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, step: Tensor, low: int, high: int, share: float) -> Tensor:
        ctx.range = low, high
        ctx.share = share
        if fused.suits(x, step):
            # The result is recomputed in the backward pass, which is cheaper than reading it.
            ctx.save_for_backward(x, step)
            return fused.quantized(x, step, low, high)
        y = codes(x, step, low, high).mul_(step)
        ctx.save_for_backward(x, step, y)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        (gradient,) = gradients
        x, step, *rest = ctx.saved_tensors
        low, high = ctx.range
        if not rest:
            passed, slope = fused.gradients(gradient, x, step, low, high)
            return passed, slope.reshape(step.shape).div(step).mul_(ctx.share), None, None, None
        (y,) = rest
        passed = _passed(gradient, x, step, low, high)
        # Inside, d(codes * step)/d(step) is codes - x / step; outside it is the code itself. Times the step, and the
        # gradient, that is gradient * y less passed * x.
        slope = (gradient * y).addcmul_(passed, x.float(), value=-1)
        summed = slope.sum_to_size(step.shape).div_(step).mul_(ctx.share)
        return passed.to(x.dtype), summed, None, None, None


def fake_quantize(x: Tensor, step: Tensor, low: int, high: int) -> Tensor:
    """``x`` rounded to multiples of ``step`` between ``low * step`` and ``high * step``; straight-through gradient.

    Parameters
    ----------
    x : Tensor
        Any shape; computed in float32.
    step : Tensor
        float32, positive, of a shape that broadcasts to that of ``x``. It gets no gradient.
    low, high : int
        The range of codes; a ``low`` of 0 is an unsigned type.

    Returns
    -------
    Tensor
        float32, of the shape of ``x``.
    """
    result: Tensor = _FakeQuantize.apply(x, step, low, high)
    return result


def learned_step_quantize(x: Tensor, step: Tensor, low: int, high: int, share: float) -> Tensor:
    """As :func:`fake_quantize`, with a gradient for ``step``, scaled by ``share``, as well."""
    result: Tensor = _LearnedStep.apply(x, step, low, high, share)
    return result


class _Quantizer(nn.Module):
    """The base of both kinds: a step that is a buffer (``ste``) or a parameter (``lsq``), and a mode."""

    scale: Tensor

    def __init__(self, initial: Tensor, method: Method) -> None:
        super().__init__()
        if method not in ("ste", "lsq"):
            raise QuantizeError(f"unknown method {method!r}; choose ste or lsq")
        self.method: Method = method
        self.mode: Mode = "float"
        if method == "lsq":
            self.scale = nn.Parameter(initial)
        else:
            self.register_buffer("scale", initial)

    def step(self) -> Tensor:
        """The step in use, positive, shape of ``scale``."""
        return self.scale.abs().clamp_min(SMALLEST_STEP) if self.method == "lsq" else self.scale


class WeightQuantizer(_Quantizer):
    """Symmetric, one step per output channel.

    Parameters
    ----------
    channels : int
        K.
    bits : int
        2 to 8.
    method : str
        ``ste`` or ``lsq``.
    narrow : bool
        Whether codes stop at ``-(2**(bits-1) - 1)``. Only a restored network has weights beyond that.

    Attributes
    ----------
    scale : Tensor
        (K,) float32: the steps.
    low, high : int
        Range of the codes.
    """

    def __init__(self, channels: int, bits: int, method: Method = "ste", *, narrow: bool = True) -> None:
        if not 2 <= bits <= 8:
            raise QuantizeError(f"weights of {bits} bits; choose 2 to 8")
        super().__init__(torch.ones(channels), method)
        self.bits = bits
        self.high = (1 << (bits - 1)) - 1
        self.low = -self.high if narrow else -self.high - 1

    @property
    def dtype(self) -> DType:
        """The type that the codes have in the integer network."""
        return DType.S4 if self.bits <= 4 else DType.S8

    @torch.no_grad()
    def set_range(self, maximum: Tensor) -> None:
        """Set the steps from the largest magnitude represented, (K,).

        Channels without weights, or with less than ``CHANNEL_FLOOR`` of the widest channel's, get that floor.

        Raises
        ------
        QuantizeError
            If a value is negative, infinite or NaN, or the shape is another.
        """
        if maximum.shape != self.scale.shape:
            raise QuantizeError(f"{maximum.numel()} ranges for {self.scale.numel()} output channels")
        if not bool(torch.isfinite(maximum).all()) or bool((maximum < 0).any()):
            raise QuantizeError("a weight range is negative, infinite or NaN; look for such weights in the network")
        widest = maximum.max()
        floor = widest * CHANNEL_FLOOR if widest > 0 else torch.ones_like(widest)
        self.scale.copy_(maximum.to(self.scale).clamp_min(floor.to(self.scale)) / self.high)

    def shaped(self, w: Tensor) -> Tensor:
        """The steps in the shape that broadcasts over weights (K, ...)."""
        return self.step().reshape(-1, *[1] * (w.dim() - 1))

    def forward(self, w: Tensor) -> Tensor:
        """Fake-quantized weights; in the other modes the unchanged weights."""
        if self.mode != "quantize":
            return w
        if self.method == "ste":
            return fake_quantize(w, self.shaped(w), self.low, self.high)
        share = 1.0 / math.sqrt(w[0].numel() * self.high)
        return learned_step_quantize(w, self.shaped(w), self.low, self.high, share)

    def codes(self, w: Tensor) -> Tensor:
        """The integers that the integer network holds, as float32."""
        return codes(w, self.shaped(w), self.low, self.high)

    def extra_repr(self) -> str:
        """The text that ``print`` shows."""
        return f"{self.scale.numel()} channels, {self.dtype}, {self.method}"


class ActivationQuantizer(_Quantizer):
    """One step for a whole tensor, zero point 0.

    Parameters
    ----------
    name : str
        The value's name: that of the layer, addition or input whose result this is, activation function included.
    dtype : DType
        U4, U7, U8, S4 or S8.
    method : str
        ``ste`` or ``lsq``.
    limit : float, optional
        The value at which the activation function clips (6 for ReLU6): the range never exceeds it.

    Attributes
    ----------
    scale : Tensor
        float32 scalar: the step. Values beyond ``dtype.maximum`` steps are clipped.
    shift : int or None
        Of the requantization that makes the codes; ``None`` lets ``convert`` choose.
    shifts : dict of str to int
        Of steps that have another one. Only a restored network has such, where values are joined.
    observer : callable, optional
        Called with every unquantized input, in every mode, while set.
    passes_factors : bool
        Whether positive factors by channel may be taken before it as well as behind it.
    """

    passes_factors: ClassVar[bool] = True

    def __init__(self, name: str, dtype: DType, method: Method = "ste", limit: float | None = None) -> None:
        super().__init__(torch.ones(()), method)
        self.name = name
        self.dtype = dtype
        self.limit = limit
        self.shift: int | None = None
        self.shifts: dict[str, int] = {}
        self.observer: Callable[[Tensor], None] | None = None

    def step(self) -> Tensor:
        """The step in use, a positive scalar."""
        step = super().step()
        return step if self.limit is None else step.clamp_max(self.limit / self.dtype.maximum)

    @property
    def range(self) -> float:
        """The largest value represented."""
        return float(self.step().detach()) * self.dtype.maximum

    @torch.no_grad()
    def set_range(self, maximum: float) -> None:
        """Set the step so that ``maximum`` is the largest value represented; 0 stands for a tensor of zeros.

        Raises
        ------
        QuantizeError
            If the value is negative, infinite or NaN.
        """
        if not 0 <= maximum < math.inf:
            raise QuantizeError(f"{self.name}: a range of {maximum}; look for infinite values or NaN in the network")
        self.scale.fill_(max((maximum or 1.0) / self.dtype.maximum, SMALLEST_STEP))

    def forward(self, x: Tensor) -> Tensor:
        """Fake-quantized (mode ``quantize``), clipped (``clip``) or the same tensor (``float``)."""
        if self.observer is not None:
            self.observer(x)
        if self.mode == "float":
            return x
        low, high = self.dtype.minimum, self.dtype.maximum
        if self.mode == "clip":
            step = self.step()
            return torch.minimum(torch.maximum(x, low * step), high * step)
        if self.method == "ste":
            return fake_quantize(x, self.step(), low, high)
        # Features of one image, so that the gradient does not depend on how a batch is divided.
        share = 1.0 / math.sqrt(max(1, x[0].numel()) * high)
        return learned_step_quantize(x, self.step(), low, high, share)

    def codes(self, x: Tensor) -> Tensor:
        """The integers that the integer network holds, as float32."""
        return codes(x, self.step(), self.dtype.minimum, self.dtype.maximum)

    def extra_repr(self) -> str:
        """The text that ``print`` shows."""
        return f"{self.name!r}, {self.dtype}, {self.method}, limit={self.limit}"


def number(tensor: Tensor) -> Array:
    """A tensor's values as float64 of NumPy."""
    values: Array = tensor.detach().cpu().double().numpy()
    return values
