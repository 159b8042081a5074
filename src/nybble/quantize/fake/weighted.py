"""The layers that have weights, and batch norm that was folded into them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from nybble.graph import Padding, Pair
from nybble.quantize.errors import QuantizeError
from nybble.quantize.fake.quantizers import ActivationQuantizer, Mode, WeightQuantizer, fake_quantize

#: No limit: if a bias needs more than 32 bits, ``convert`` makes the units coarser.
_BIAS_LIMIT = 1 << 62


class FoldedNorm(nn.Module):
    """The parts of a batch norm that are kept after folding, from which its statistics can be estimated again.

    A folded layer returns what the batch norm returned, so its outputs had mean ``shift`` and deviation ``|gain|``
    where the statistics were taken. New statistics multiply the folded weights per channel.

    Parameters
    ----------
    gain, shift, variance : Tensor
        (K,): the batch norm's weight, bias and running variance.
    eps : float
    """

    gain: Tensor
    shift: Tensor
    variance: Tensor

    def __init__(self, gain: Tensor, shift: Tensor, variance: Tensor, eps: float) -> None:
        super().__init__()
        self.eps = eps
        for name, value in (("gain", gain), ("shift", shift), ("variance", variance)):
            self.register_buffer(name, value.detach().clone().float())
        self._estimates: list[tuple[Tensor, Tensor]] = []
        self.estimating = False

    def forward(self, y: Tensor) -> Tensor:
        """Normalise the folded layer's output by its own statistics, as batch norm in training does."""
        dimensions = [0, *range(2, y.dim())]
        mean = y.mean(dimensions)
        biased = y.var(dimensions, correction=0)
        count = y.numel() // y.shape[1]
        # Batch norm uses the biased variance on the batch and keeps the unbiased one.
        self._estimates.append((mean.detach(), biased.detach() * (count / max(1, count - 1))))
        factor = self._factor(biased)
        shape = (-1, *[1] * (y.dim() - 2))
        return (y - mean.reshape(shape)) * factor.reshape(shape) + self.shift.reshape(shape)

    def _factor(self, variance: Tensor) -> Tensor:
        """The factor that normalises outputs of that variance."""
        # The batch norm read z, with y = gain * z / sqrt(old variance + eps) up to a constant.
        scale = torch.sqrt(self.variance + self.eps)
        alive = self.gain != 0
        inner = torch.where(alive, variance * (scale / torch.where(alive, self.gain, 1.0)) ** 2, self.variance)
        return scale / torch.sqrt(inner + self.eps)

    def settle(self) -> tuple[Tensor, Tensor]:
        """Average the batches' statistics; the (factor, mean) by which the layer's weights and bias must change.

        Raises
        ------
        QuantizeError
            If no batch was seen.
        """
        if not self._estimates:
            raise QuantizeError("batch norm cannot be estimated from no images; pass at least one batch")
        mean = torch.stack([entry[0] for entry in self._estimates]).mean(0)
        variance = torch.stack([entry[1] for entry in self._estimates]).mean(0)
        self._estimates = []
        self.estimating = False
        factor = self._factor(variance)
        alive = self.gain != 0
        scale = torch.sqrt(self.variance + self.eps)
        self.variance.copy_(torch.where(alive, variance * (scale / torch.where(alive, self.gain, 1.0)) ** 2, 1.0))
        return factor, mean


class QuantizedLayer(nn.Module):
    """A convolution or linear layer whose weights and bias are fake-quantized in mode ``quantize``.

    Attributes
    ----------
    name : str
    weight : Parameter
        float32, batch norm folded in.
    bias : Parameter
        float32 (K,), batch norm folded in; zeros where the network had none.
    weight_quantizer : WeightQuantizer
    norm : FoldedNorm or None
    """

    def __init__(
        self,
        name: str,
        weight: Tensor,
        bias: Tensor | None,
        weight_quantizer: WeightQuantizer,
        input_quantizer: ActivationQuantizer,
        norm: FoldedNorm | None = None,
    ) -> None:
        super().__init__()
        self.name = name
        self.mode: Mode = "float"
        self.weight = nn.Parameter(weight.detach().clone().float())
        initial = torch.zeros(len(weight)) if bias is None else bias.detach().clone().float()
        self.bias = nn.Parameter(initial)
        self.weight_quantizer = weight_quantizer
        self.norm = norm
        # In a tuple, so that it is not registered twice: the network owns it.
        self._reads = (input_quantizer,)

    @property
    def input_quantizer(self) -> ActivationQuantizer:
        """The quantizer whose codes this layer reads, possibly through pools."""
        return self._reads[0]

    def unit(self) -> Tensor:
        """(K,): the real value of one unit of the integer sums, without gradient."""
        return (self.weight_quantizer.step() * self.input_quantizer.step()).detach()

    def quantized_bias(self) -> Tensor:
        """(K,): the bias as the layer adds it, whole units in mode ``quantize``."""
        if self.mode != "quantize":
            return self.bias
        return fake_quantize(self.bias, self.unit(), -_BIAS_LIMIT, _BIAS_LIMIT)

    def apply_weights(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """The layer's result for weights and bias given by the caller."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """The exact sums, bias included."""
        y = self.apply_weights(x, self.weight_quantizer(self.weight), self.quantized_bias())
        if self.norm is not None and self.norm.estimating:
            y = self.norm(y)
        return y

    @torch.no_grad()
    def settle_norm(self) -> None:
        """Take over newly estimated statistics of batch norm."""
        if self.norm is None:
            return
        factor, mean = self.norm.settle()
        self.weight.mul_(factor.reshape(-1, *[1] * (self.weight.dim() - 1)))
        self.bias.copy_((self.bias - mean) * factor + self.norm.shift)


class QuantizedConv2d(QuantizedLayer):
    """A convolution; zero padding may differ from side to side."""

    def __init__(
        self,
        name: str,
        weight: Tensor,
        bias: Tensor | None,
        weight_quantizer: WeightQuantizer,
        input_quantizer: ActivationQuantizer,
        norm: FoldedNorm | None = None,
        *,
        stride: Pair = Pair(1, 1),
        padding: Padding = Padding(),
        dilation: Pair = Pair(1, 1),
        groups: int = 1,
    ) -> None:
        super().__init__(name, weight, bias, weight_quantizer, input_quantizer, norm)
        self.stride = stride
        self.padding = padding
        self.dilation = dilation
        self.groups = groups

    @property
    def is_depthwise(self) -> bool:
        """Whether every output reads one channel."""
        return self.groups > 1 and self.weight.shape[1] == 1

    def apply_weights(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """(N, C, H, W) to (N, K, H', W')."""
        top, left, bottom, right = self.padding
        sides: tuple[int, int] = (top, left)
        if not self.padding.is_symmetric:
            x, sides = functional.pad(x, (left, right, top, bottom)), (0, 0)
        return functional.conv2d(x, weight, bias, tuple(self.stride), sides, tuple(self.dilation), self.groups)

    def extra_repr(self) -> str:
        """The text that ``print`` shows."""
        return f"{self.name!r}, {tuple(self.weight.shape)}, stride={tuple(self.stride)}, groups={self.groups}"


class QuantizedLinear(QuantizedLayer):
    """A linear layer; a (N, C, H, W) input is read flat."""

    def apply_weights(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """(N, C) or (N, C, H, W) to (N, K)."""
        return functional.linear(x.flatten(1), weight, bias)

    def extra_repr(self) -> str:
        """The text that ``print`` shows."""
        return f"{self.name!r}, {tuple(self.weight.shape)}"
