"""Learned rounding of weights: AdaRound (Nagel, Amjad, van Baalen, Louizos and Blankevoort 2020).

A weight lies between two codes. A rectified sigmoid (Louizos, Welling and Kingma 2018) says how far up it goes, and a
regulariser drives it to one of the two.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nybble.quantize.fake.weighted import QuantizedLayer

#: The sigmoid is stretched to this interval and cut to 0..1, so that both ends are reached.
_LOW, _HIGH = -0.1, 1.1


class Rounding(nn.Module):
    """Which of its two neighbouring codes each weight of a layer gets.

    Parameters
    ----------
    layer : QuantizedLayer
        With the steps of its weights set. It is left as it is.

    Attributes
    ----------
    variable : Parameter
        Of the shape of the weights. At first the gate is where the weight itself lies between the codes.
    """

    floor: Tensor
    step: Tensor

    def __init__(self, layer: QuantizedLayer) -> None:
        super().__init__()
        quantizer = layer.weight_quantizer
        self._range = quantizer.low, quantizer.high
        with torch.no_grad():
            step = quantizer.shaped(layer.weight).detach().clone()
            scaled = layer.weight.detach() / step
            floor = scaled.floor()
            share = ((scaled - floor) - _LOW) / (_HIGH - _LOW)
            self.register_buffer("step", step)
            self.register_buffer("floor", floor)
            self.variable = nn.Parameter(torch.logit(share))

    def gate(self) -> Tensor:
        """0 for the code below, 1 for the one above."""
        return (torch.sigmoid(self.variable) * (_HIGH - _LOW) + _LOW).clamp(0, 1)

    def soft(self) -> Tensor:
        """The weights as they are while learning, with a gradient for the variable."""
        return (self.floor + self.gate()).clamp(*self._range) * self.step

    @torch.no_grad()
    def codes(self) -> Tensor:
        """The integers chosen, as float32."""
        return (self.floor + (self.gate() >= 0.5)).clamp(*self._range)


def undecided(roundings: Sequence[Rounding], sharpness: float) -> Tensor:
    """The regulariser (equation 24 of the paper), as a mean over all weights: 0 where every gate is 0 or 1."""
    total = sum(rounding.variable.numel() for rounding in roundings)
    parts = [(1 - (2 * rounding.gate() - 1).abs().pow(sharpness)).sum() for rounding in roundings]
    return torch.stack(parts).sum() / total
