"""Cross-layer equalisation: channels of similar size, by moving factors from one layer to the next.

Nagel, van Baalen, Blankevoort and Welling 2019, "Data-free quantization through weight equalization and bias
correction". A ReLU lets positive factors pass, so what channel ``i`` of a layer is divided by, the next layer can make
up for. Weights here have a step per output channel, which absorbs the first layer's factors; what is won is in the
activation between them, which has one step for all channels, and in the second layer's input channels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from nybble.quantize.errors import QuantizeError
from nybble.quantize.fake.network import QuantizedNetwork, Step, readers_of
from nybble.quantize.fake.operation import FakeOperation
from nybble.quantize.fake.quantizers import ActivationQuantizer
from nybble.quantize.fake.weighted import QuantizedConv2d, QuantizedLayer
from nybble.quantize.ops.add import Add
from nybble.quantize.ops.relu import ReLU
from nybble.quantize.ptq.blocks import first_images
from nybble.quantize.ptq.magnitudes import widen

#: Factors that are nearer to 1 than this end the iteration.
_SETTLED = 1e-3
#: A channel is scaled by no more than this, or one over it: a nearly dead channel would take all precision.
_LARGEST_FACTOR = 2.0**10


@dataclass(frozen=True)
class EqualizedPair:
    """Two layers, and the smallest and largest factor that channels between them were divided by."""

    first: str
    second: str
    smallest: float
    largest: float


@dataclass
class EqualizationReport:
    """The result of :func:`equalize`.

    Attributes
    ----------
    pairs : list of EqualizedPair
    skipped : dict of str to str
        By layer, why it has no partner.
    rounds : int
    """

    pairs: list[EqualizedPair] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    rounds: int = 0


@torch.no_grad()
def equalize(
    network: QuantizedNetwork, batches: Iterable[Any] | None = None, *, rounds: int = 20
) -> EqualizationReport:
    """Even out channel sizes between consecutive layers. The float network computes the same function.

    Call it between ``prepare`` and ``calibrate``: it sets weight ranges again, ranges of activations become invalid,
    and the network is in mode ``float`` afterwards. A layer is paired with the next one if there are only ReLUs and
    pools between them, and nothing else reads these. A ReLU6 or another fixed clip would have to be scaled by channel:
    such layers are skipped (use :func:`nybble.quantize.fit_channels`), as are those whose sums are added to others. Do
    not use it if clipping is part of the network's function (:func:`from_graph`).

    Parameters
    ----------
    network : QuantizedNetwork
    batches : iterable, optional
        float32 (N, C, H, W), or tuples that start with such a tensor. Then a channel's size in the first layer is the
        largest value seen there (as Xiao et al. 2023 balance activations against weights), else the largest magnitude
        of its weights (Nagel et al. 2019).
    rounds : int
        Largest number of passes over chains of layers; it stops earlier if nothing changes.

    Returns
    -------
    EqualizationReport

    Raises
    ------
    QuantizeError
        If the network is in mode ``clip``, or a weight is not finite.
    """
    if network.mode == "clip":
        raise QuantizeError("this network's clipping belongs to its function, which equalisation would change")
    network.set_mode("float")
    report = EqualizationReport()
    pairs = _pairs(network, report)
    sizes = None if batches is None else _activation_sizes(network, [first for first, _ in pairs], batches)
    totals = [torch.ones_like(first.bias) for first, _ in pairs]
    for _ in range(rounds):
        report.rounds += 1
        moved = 0.0
        for place, (first, second) in enumerate(pairs):
            size = first.weight.flatten(1).abs().amax(1) if sizes is None else sizes[first.name]
            factor = _factors(first.name, size, _columns(second, len(first.weight)))
            bounded = (totals[place] * factor).clamp(1 / _LARGEST_FACTOR, _LARGEST_FACTOR)
            factor, totals[place] = bounded / totals[place], bounded
            move_factors(first, second, factor)
            if sizes is not None:
                sizes[first.name] = size / factor
            moved = max(moved, float(factor.log().abs().max()))
        if moved < _SETTLED:
            break
    reset_weight_ranges(network)
    report.pairs = [
        EqualizedPair(first.name, second.name, float(total.min()), float(total.max()))
        for (first, second), total in zip(pairs, totals, strict=True)
    ]
    return report


def _pairs(network: QuantizedNetwork, report: EqualizationReport) -> list[tuple[QuantizedLayer, QuantizedLayer]]:
    readers = readers_of(network.steps)
    found = []
    for step in network.steps:
        if isinstance(step.module, QuantizedLayer):
            partner = find_partner(step.name, readers)
            if isinstance(partner, str):
                report.skipped[step.name] = partner
            else:
                found.append((step.module, partner))
    return found


def reset_weight_ranges(network: QuantizedNetwork) -> None:
    """Weight steps from the largest magnitude of each channel, after weights were scaled."""
    for name, quantizer in network.weight_quantizers().items():
        quantizer.set_range(network.layers()[name].weight.flatten(1).abs().amax(1))


def find_partner(name: str, readers: Mapping[str, list[Step]], *, clipped: bool = False) -> QuantizedLayer | str:
    """The layer that alone reads a value, or why there is none; behind a fixed clip only if ``clipped``."""
    while name in readers:
        if len(readers[name]) > 1:
            return f"{name} is read by {' and '.join(step.name for step in readers[name])}"
        (step,) = readers[name]
        name, module = step.name, step.module
        if isinstance(module, QuantizedLayer):
            return module
        if isinstance(module, ReLU) and module.maximum is not None and not clipped:
            return f"{step.name} clips at {module.maximum:g}, which would have to differ by channel"
        if isinstance(module, ActivationQuantizer) and module.limit is not None and not clipped:
            return f"{step.name} clips at {module.limit:g}, which would have to differ by channel"
        if isinstance(module, Add):
            return f"its sums go into the addition {step.name}"
        if not isinstance(module, FakeOperation | ActivationQuantizer) or not module.passes_factors:
            return f"{step.name}, {type(module).__name__}, rearranges channels"
    return "its result is the network's"


def _activation_sizes(
    network: QuantizedNetwork, layers: list[QuantizedLayer], batches: Iterable[Any]
) -> dict[str, Tensor]:
    """By layer, the largest value of each output channel behind its activation function: (K,)."""
    # What a value is rounded by: the quantizer that follows the layer sees it behind the ReLU.
    seen: dict[str, Tensor] = {}
    handles = []
    owners: dict[str, QuantizedLayer] = {}
    quantizers: list[tuple[QuantizedLayer, ActivationQuantizer]] = []
    for step in network.steps:
        if isinstance(step.module, QuantizedLayer):
            owners[step.name] = step.module
        elif isinstance(step.module, ReLU) and step.inputs[0] in owners:
            owners[step.name] = owners[step.inputs[0]]
        elif isinstance(step.module, ActivationQuantizer) and step.inputs[0] in owners:
            quantizers.append((owners[step.inputs[0]], step.module))

    def watch(name: str) -> Any:
        def hook(_module: Any, inputs: tuple[Tensor, ...], _result: Tensor) -> None:
            widen(seen, name, inputs[0])

        return hook

    paired = {layer.name for layer in layers}
    try:
        for layer, quantizer in quantizers:
            if layer.name in paired:
                handles.append(quantizer.register_forward_hook(watch(layer.name)))
        for images in first_images(batches, None):
            network(images.to(next(network.parameters()).device))
    finally:
        for handle in handles:
            handle.remove()
    if missing := [layer.name for layer in layers if layer.name not in seen]:
        raise QuantizeError(f"{missing[0]}: no activation was seen; pass at least one batch of images")
    return seen


def _columns(layer: QuantizedLayer, channels: int) -> Tensor:
    """(channels,): the largest magnitude of the weights that read each channel."""
    weight = layer.weight
    if not isinstance(layer, QuantizedConv2d):
        return weight.reshape(len(weight), channels, -1).abs().amax((0, 2))
    grouped = weight.reshape(layer.groups, len(weight) // layer.groups, *weight.shape[1:])
    return grouped.flatten(3).abs().amax((1, 3)).reshape(-1)


def _factors(name: str, rows: Tensor, columns: Tensor) -> Tensor:
    if not math.isfinite(float(rows.sum() + columns.sum())):
        raise QuantizeError(f"{name}: a weight or an activation is NaN or infinite")
    alive = (rows > 0) & (columns > 0)
    ratio = torch.where(alive, rows, 1.0) / torch.where(alive, columns, 1.0)
    # A layer's overall size is of no consequence: the factors' geometric mean over living channels is kept at 1.
    logarithm = ratio.log() / 2
    if bool(alive.any()):
        logarithm = logarithm - logarithm[alive].mean()
    return torch.where(alive, logarithm.exp(), 1.0)


def move_factors(first: QuantizedLayer, second: QuantizedLayer, factor: Tensor) -> None:
    """Divide a layer's outputs by factors (K,), and multiply the weights that read them."""
    first.weight.div_(factor.reshape(-1, *[1] * (first.weight.dim() - 1)))
    first.bias.div_(factor)
    if first.norm is not None:
        first.norm.gain.div_(factor)
        first.norm.shift.div_(factor)
    weight = second.weight
    if not isinstance(second, QuantizedConv2d):
        weight.copy_((weight.reshape(len(weight), len(factor), -1) * factor.reshape(1, -1, 1)).reshape(weight.shape))
        return
    per_group = factor.reshape(second.groups, 1, -1).expand(-1, len(weight) // second.groups, -1)
    weight.mul_(per_group.reshape(len(weight), -1, *[1] * (weight.dim() - 2)))
