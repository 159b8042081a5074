"""A range for each channel behind a ReLU6, although the integer network has one range for the whole tensor.

An activation has one step for all channels. If only one layer reads it, channel ``c`` can be divided by any positive
factor in the layer that makes it, whose weights have a step per output channel, and multiplied again in the
layer that reads it (Nagel et al. 2019). Dividing by the range that suits the channel gives it a step of its own. A
ReLU6 then clips the channel at ``6 / factor``; as no range is wider than what its channel is clipped at, the common
range of the integer network clips first, and the ReLU6 is gone.

A depthwise layer that reads has a weight step per channel too, and takes the factors up whole. Another layer's weights
share a step over the input channels, to which factors can do harm: there each gets its square root, half the way
in logarithms (as Xiao et al. 2023 share between activations and weights).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nybble.graph.types import DType
from nybble.quantize.errors import QuantizeError
from nybble.quantize.fake.network import QuantizedNetwork, readers_of
from nybble.quantize.fake.quantizers import ActivationQuantizer
from nybble.quantize.fake.weighted import QuantizedConv2d, QuantizedLayer
from nybble.quantize.ops.relu import ReLU
from nybble.quantize.ptq.blocks import first_images
from nybble.quantize.ptq.equalize import find_partner, move_factors, reset_weight_ranges

#: Bins of a channel's histogram, from 0 to where the activation function clips.
_BINS = 384
#: A channel's factor is no smaller: a nearly dead channel would only be noise.
_SMALLEST_FACTOR = 2.0**-6


@dataclass(frozen=True)
class FittedChannels:
    """An activation whose channels got ranges of their own: the smallest and the largest."""

    name: str
    smallest: float
    largest: float


@dataclass(frozen=True)
class _Place:
    """Where channels can be divided: the layers on either side, and what is between them."""

    first: QuantizedLayer
    rectifier: ReLU
    quantizer: ActivationQuantizer
    second: QuantizedLayer
    maximum: float

    @property
    def has_steps_by_channel(self) -> bool:
        """Whether the layer that reads has a weight step for each input channel, so that factors cost it nothing."""
        return isinstance(self.second, QuantizedConv2d) and self.second.is_depthwise


@torch.no_grad()
def fit_channels(
    network: QuantizedNetwork, batches: Iterable[Any], *, images: int | None = None
) -> list[FittedChannels]:
    """Divide channels behind a ReLU6 by the ranges that suit them. The float network computes the same function.

    Call it between ``prepare`` and ``calibrate``: it sets weight ranges again, ranges of activations become invalid,
    and the network is in mode ``float`` afterwards. A channel's range is the clip with the least squared error for the
    activation's type. For activations without a fixed clip use :func:`nybble.quantize.equalize`.

    Parameters
    ----------
    network : QuantizedNetwork
    batches : iterable
        float32 (N, C, H, W), or tuples that start with such a tensor.
    images : int, optional
        Use only the first so many.

    Returns
    -------
    list of FittedChannels
        Empty if the network has no such activation.

    Raises
    ------
    QuantizeError
        If the network is in mode ``clip``, has been fitted before, or no image was given.
    """
    if network.mode == "clip":
        raise QuantizeError("this network's clipping belongs to its function; its channels cannot be fitted")
    network.set_mode("float")
    places = _places(network)
    if any(place.rectifier.divisor is not None for place in places):
        raise QuantizeError("this network's channels have been fitted already; prepare it anew")
    counts = _histograms(network, places, batches, images)
    found = []
    for place in places:
        ranges = _best_ranges(counts[place.quantizer.name], place.maximum, place.quantizer.dtype)
        factor = (ranges / ranges.max()).clamp_min(_SMALLEST_FACTOR)
        if not place.has_steps_by_channel:
            factor = factor.sqrt()
        move_factors(place.first, place.second, factor)
        place.rectifier.divisor = factor
        found.append(FittedChannels(place.quantizer.name, float(ranges.min()), float(ranges.max())))
    reset_weight_ranges(network)
    return found


def _places(network: QuantizedNetwork) -> list[_Place]:
    readers = readers_of(network.steps)
    found = []
    for step in network.steps:
        if not isinstance(step.module, QuantizedLayer):
            continue
        second = find_partner(step.name, readers, clipped=True)
        if isinstance(second, str):
            continue
        (reader,) = readers[step.name]
        (after,) = readers[reader.name]
        rectifier, quantizer = reader.module, after.module
        if isinstance(rectifier, ReLU) and rectifier.maximum is not None and isinstance(quantizer, ActivationQuantizer):
            found.append(_Place(step.module, rectifier, quantizer, second, rectifier.maximum))
    return found


def _histograms(
    network: QuantizedNetwork, places: list[_Place], batches: Iterable[Any], images: int | None
) -> dict[str, Tensor]:
    """By activation, (C, bins) float64: how often each channel's values fall into a bin, zeros left out."""
    counts: dict[str, Tensor] = {}

    def watched(place: _Place) -> Any:
        name, width = place.quantizer.name, place.maximum / _BINS

        def observe(x: Tensor) -> None:
            rows = x.transpose(0, 1).flatten(1)
            bins = (rows / width).to(torch.int64).clamp_(max=_BINS - 1)
            bins += torch.arange(len(rows), device=x.device)[:, None] * _BINS
            flat = torch.bincount(bins.flatten()[rows.flatten() > 0], minlength=len(rows) * _BINS)
            counts[name] = counts.get(name, 0) + flat.reshape(len(rows), _BINS).double()

        return observe

    device = next(network.parameters()).device
    try:
        for place in places:
            place.quantizer.observer = watched(place)
        for batch in first_images(batches, images):
            network(batch.to(device))
    finally:
        for place in places:
            place.quantizer.observer = None
    if places and not counts:
        raise QuantizeError("channels cannot be fitted to no images; pass at least one batch")
    return counts


def _best_ranges(counts: Tensor, maximum: float, dtype: DType) -> Tensor:
    """(C,): of the clips at a bin's end, the one with the least squared error; ``maximum`` for a channel of zeros."""
    centres = (torch.arange(_BINS, dtype=torch.float64, device=counts.device) + 0.5) * (maximum / _BINS)
    least = torch.full((len(counts),), torch.inf, dtype=torch.float64, device=counts.device)
    best = torch.full_like(least, maximum)
    for place in range(4, _BINS + 1, 4):
        clip = maximum * place / _BINS
        step = clip / dtype.maximum
        error = counts @ (centres - (centres / step + 0.5).floor().clamp(max=dtype.maximum) * step).square()
        better = error < least
        least, best = torch.where(better, error, least), torch.where(better, clip, best)
    return torch.where(counts.sum(1) > 0, best, maximum).float()
