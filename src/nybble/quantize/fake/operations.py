"""The operations of a prepared network that have no weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from nybble.graph import Padding, Pair
from nybble.quantize.fake.quantizers import ActivationQuantizer, Mode, round_away
from nybble.quantize.fake.weighted import QuantizedLayer
from nybble.quantize.ir import pooling


class _WholeUnits(torch.autograd.Function):
    """A shortcut times ``ratio`` in whole units (K) of the sums that take it in; the gradient knows no rounding."""

    @staticmethod
    def forward(ctx: Any, shortcut: Tensor, unit: Tensor, ratio: Tensor | None) -> Tensor:
        ctx.ratio = ratio
        scaled = torch.mul(shortcut, 1.0 / unit if ratio is None else ratio / unit)
        return round_away(scaled).mul_(unit)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gradients[0] if ctx.ratio is None else gradients[0] * ctx.ratio, None, None


class Add(nn.Module):
    """The sum of two values: what a convolution sums up, and a shortcut.

    Parameters
    ----------
    layer : QuantizedLayer, optional
        Whose sums the first value is. In mode ``quantize`` the shortcut is rounded to whole units of them.
    ratio : Tensor, optional
        (K,): what the shortcut is multiplied by. Only a restored network has one; there the integer network's factors
        say slightly more than the scales of its values do.
    shift : int, optional
        Of the shortcut's rescaling; by default ``convert`` chooses.
    label : str, optional
        What the shortcut's rescaling is called in the integer network.
    """

    ratio: Tensor | None

    def __init__(
        self,
        layer: QuantizedLayer | None = None,
        ratio: Tensor | None = None,
        shift: int | None = None,
        label: str | None = None,
    ) -> None:
        super().__init__()
        self.mode: Mode = "float"
        self.shift = shift
        self.label = label
        self.register_buffer("ratio", ratio)
        # In a tuple, so that it is not registered twice: the network owns it.
        self._takes = (layer,)

    @property
    def layer(self) -> QuantizedLayer | None:
        """Whose sums the first value is, if they are a layer's."""
        return self._takes[0]

    def forward(self, sums: Tensor, shortcut: Tensor) -> Tensor:
        """Two tensors of one shape."""
        shape = (-1, *[1] * (shortcut.dim() - 2))
        ratio = None if self.ratio is None else self.ratio.reshape(shape)
        if self.mode == "quantize" and self.layer is not None:
            whole: Tensor = _WholeUnits.apply(shortcut, self.layer.unit().reshape(shape), ratio)
            return sums + whole
        return sums + (shortcut if ratio is None else shortcut * ratio)


class ReLU(nn.Module):
    """``max(0, x)``, and ``min(maximum, .)`` where a maximum is given (6 for ReLU6).

    Attributes
    ----------
    maximum : float or None
    divisor : Tensor or None
        (C,): what channels were divided by, and the maximum with them (:func:`nybble.quantize.fit_channels`).
    """

    divisor: Tensor | None

    def __init__(self, maximum: float | None = None) -> None:
        super().__init__()
        self.maximum = maximum
        self.register_buffer("divisor", None)
        # In a tuple, so that it is not registered twice: the network owns it.
        self._behind: tuple[ActivationQuantizer, ...] = ()

    def precede(self, quantizer: ActivationQuantizer) -> None:
        """Say that an unsigned quantizer is all that reads the result: it clips at 0, and no later than this does."""
        self._behind = (quantizer,)

    @property
    def is_absorbed(self) -> bool:
        """Whether the quantizer behind does the clipping as well, which saves training two passes over memory."""
        return (
            bool(self._behind)
            and self.training
            and all(q.mode == "quantize" and q.observer is None for q in self._behind)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Any shape; (N, C, ...) where channels were divided."""
        if self.is_absorbed:
            return x
        if self.divisor is not None and self.maximum is not None:
            maxima = (self.maximum / self.divisor).reshape(-1, *[1] * (x.dim() - 2))
            return torch.minimum(functional.relu(x), maxima)
        # hardtanh rather than clamp: its gradient takes one pass over memory instead of four.
        return functional.relu(x) if self.maximum is None else functional.hardtanh(x, 0.0, self.maximum)

    def extra_repr(self) -> str:
        """What ``print`` shows of it."""
        return "" if self.maximum is None else f"maximum={self.maximum}"


class MaxPool2d(nn.Module):
    """The largest value of each window; padding never wins."""

    def __init__(
        self,
        kernel_size: Pair,
        stride: Pair,
        padding: Padding = Padding(),
        dilation: Pair = Pair(1, 1),
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding = padding
        self.dilation = dilation
        self.ceil_mode = ceil_mode

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, H', W')."""
        if self.kernel_size == (1, 1) and not any(self.padding) and not self.ceil_mode:
            return x[:, :, :: self.stride.rows, :: self.stride.columns]
        window = self.kernel_size if self.dilation != (1, 1) else pooling.fitting(x, self.kernel_size, self.padding)
        return pooling.maxima(x, window, self.stride, self.padding, self.dilation, ceil_mode=self.ceil_mode)

    def extra_repr(self) -> str:
        """What ``print`` shows of it."""
        return f"{tuple(self.kernel_size)}, stride={tuple(self.stride)}, padding={tuple(self.padding)}"


class AvgPool2d(nn.Module):
    """The average of each window, in mode ``quantize`` rounded to whole steps as the integer network does: half up.

    An ``exact`` one makes logits: the integer network sums its windows up, and nothing is rounded.
    """

    def __init__(
        self,
        quantizer: ActivationQuantizer,
        kernel_size: Pair,
        stride: Pair,
        padding: Padding = Padding(),
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        exact: bool = False,
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding = padding
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad
        self.exact = exact
        self.mode: Mode = "float"
        # In a tuple, so that it is not registered twice: the network owns it.
        self._reads = (quantizer,)

    @property
    def quantizer(self) -> ActivationQuantizer:
        """The quantizer whose codes are averaged."""
        return self._reads[0]

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, H', W')."""
        window = pooling.fitting(x, self.kernel_size, self.padding)
        y = pooling.averages(
            x,
            window,
            self.stride,
            self.padding,
            ceil_mode=self.ceil_mode,
            count_include_pad=self.count_include_pad,
        )
        if self.mode != "quantize" or self.exact:
            return y
        step = self.quantizer.step()
        with torch.no_grad():
            # Averages of codes are multiples of 1 / window: float32 errors must not pull a half below, and what is
            # next below a half must stay there.
            slack = min(1e-4, 0.25 / (window.rows * window.columns))
            rounded = torch.floor(y / step + (0.5 + slack)) * step
        return y + (rounded - y).detach()

    def extra_repr(self) -> str:
        """What ``print`` shows of it."""
        return f"{tuple(self.kernel_size)}, stride={tuple(self.stride)}"


class Concat(nn.Module):
    """The channels of several values, one after the other: all are codes of one quantizer, so they can be copied."""

    def forward(self, *values: Tensor) -> Tensor:
        """Tensors (N, C, H, W) that agree but for C."""
        return torch.cat(values, 1)


class Pad(nn.Module):
    """Every ``stride``-th row and column, zeros around the image, and channels of zeros before and after.

    The values stay what they are: the integer network copies codes. Option A of the shortcuts of He et al. 2015.
    """

    def __init__(self, stride: Pair, padding: Padding, channels: tuple[int, int]) -> None:
        super().__init__()
        self.stride = stride
        self.padding = padding
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, before + C + after, H', W')."""
        top, left, bottom, right = self.padding
        some = x[:, :, :: self.stride.rows, :: self.stride.columns]
        return functional.pad(some, (left, right, top, bottom, *self.channels))

    def extra_repr(self) -> str:
        """What ``print`` shows of it."""
        return f"stride={tuple(self.stride)}, padding={tuple(self.padding)}, channels={self.channels}"
