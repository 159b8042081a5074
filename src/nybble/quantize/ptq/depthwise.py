"""A step for each channel before and behind depthwise layers, although a tensor's codes have one step.

A depthwise layer's weights have a step for each channel that it reads, so each channel may be divided by a suitable
number before it is rounded, and the weights multiplied by it, without loss (Nagel et al. 2019 move such factors between
layers). The channels of its result differ as widely; a convolution that reads them merges the factors into its weights,
which then have similar sizes over the channels. The Quantize node that rounds sums has a factor for each channel, so
dividing costs nothing.

A table has no factors by channel. A SiLU or HardSwish, ``x * gate(x)``, is therefore computed as a product: ``x``
rounded with a step for each channel, the gate by a table with one step for all, and their exact product rounded with a
step for each channel once more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from nybble.quantize.errors import QuantizeError
from nybble.quantize.ir.elementwise import Function, GatedProduct, Product, name_of
from nybble.quantize.ir.float_network import ChannelDivision, Conv, FloatNetwork, Op, Rectifier, Sum
from nybble.quantize.ptq.blocks import first_images
from nybble.quantize.ptq.magnitudes import widen

#: Of the widest channel's range, the least that a channel is given: a nearly dead one would only be noise.
_LEAST = 2.0**-8
#: Gates of functions ``x * gate(x)``, and from where on they are 0 or 1 to less than half a step of eight bits.
_GATES: dict[str, tuple[Callable[[Tensor], Tensor], str, float]] = {
    "SiLU": (torch.sigmoid, "Sigmoid", 8.0),
    "HardSwish": (functional.hardsigmoid, "HardSigmoid", 3.0),
}


@dataclass(frozen=True)
class ScaledChannels:
    """A value beside a depthwise layer: the smallest and the largest range of its channels, and its gate's name."""

    name: str
    smallest: float
    largest: float
    gate: str


@torch.no_grad()
def scale_channels(
    network: FloatNetwork, batches: Iterable[Any], *, images: int | None = None
) -> tuple[FloatNetwork, list[ScaledChannels]]:
    """Divide the channels that depthwise layers read or make by their ranges. The network computes the same function.

    Values that convolutions alone read are divided. It belongs before ``prepare_captured``. A channel's range is the
    largest magnitude seen. Values behind a ReLU6 are left to :func:`nybble.quantize.fit_channels`.

    Parameters
    ----------
    network : FloatNetwork
        Folded. It is left as it is.
    batches : iterable
        float32 (N, C, H, W), or tuples that start with such a tensor.
    images : int, optional
        Use only the first so many.

    Returns
    -------
    FloatNetwork
    list of ScaledChannels
        Empty where the network has no such value.

    Raises
    ------
    QuantizeError
        If no image was given.
    """
    places = _places(network)
    if not places:
        return network, []
    ranges = _ranges(network, places, batches, images)
    made = replace(network, ops=[replace(op) for op in network])
    found = []
    for name, gate in places.items():
        widest = float(ranges[name].max())
        reach = ranges[name].clamp_min(max(widest * _LEAST, 1e-12))
        source = _gated(made, name, gate, ranges) if gate else name
        _divide(made, source, name, reach / ranges[f"{name}.gated"] if gate else reach, reach)
        found.append(ScaledChannels(name, float(reach.min()), widest, gate))
    return made, found


def _places(network: FloatNetwork) -> dict[str, str]:
    """Values beside depthwise layers that may be divided by channel; the name of their gate, or none."""
    by_name = {op.name: op for op in network}
    readers = network.readers()
    found = {}
    for op in network:
        before = by_name.get(op.inputs[0])
        made = op if isinstance(op, Conv) else before
        beside = made is not None and _is_depthwise(made)
        if readers[op.name] and all(_takes_factors(reader) for reader in readers[op.name]):
            if not beside and not any(_is_depthwise(reader) for reader in readers[op.name]):
                continue
            if isinstance(op, Function) and len(op.inputs) == 1:
                name = name_of(op.function, op.label)
                if name in _GATES and isinstance(before, Conv):
                    found[op.name] = name
            elif _is_sum(op) or (isinstance(op, Rectifier) and op.maximum is None and before and _is_sum(before)):
                found[op.name] = ""
    return found


def _is_depthwise(op: Op) -> bool:
    return isinstance(op, Conv) and op.groups > 1 and op.weight.shape[1] == 1 and op.weight[0].numel() > 1


def _takes_factors(op: Op) -> bool:
    """Whether factors of the channels that it reads can be multiplied into its weights."""
    return _is_depthwise(op) or (isinstance(op, Conv) and op.groups == 1 and op.weight.shape[1] > 1)


def _is_sum(op: Op) -> bool:
    """Whether the integer network has its result as exact sums."""
    return isinstance(op, Conv | Sum | Product)


def _ranges(
    network: FloatNetwork, places: dict[str, str], batches: Iterable[Any], images: int | None
) -> dict[str, Tensor]:
    """(C,) by value: its largest magnitude; of gated ones, ``NAME.gated`` is that of what the gate multiplies."""
    found: dict[str, Tensor] = {}
    sources = {name: next(op for op in network if op.name == name).inputs[0] for name, gate in places.items() if gate}
    for batch in first_images(batches, images):
        for op, values in network.steps(batch):
            if op.name in places:
                widen(found, op.name, values[op.name])
            if op.name in sources:
                # What is below that, the gate makes nothing of.
                reach = _GATES[places[op.name]][2]
                widen(found, f"{op.name}.gated", values[sources[op.name]].clamp_min(-reach))
    if not found:
        raise QuantizeError("channels cannot be scaled by no images; pass at least one batch")
    for name in sources:
        key = f"{name}.gated"
        found[key] = found[key].clamp_min(float(found[key].max()) * _LEAST)
    return found


def _gated(network: FloatNetwork, name: str, gate: str, ranges: dict[str, Tensor]) -> str:
    """Put the product in place of the function of that name; the name of the product."""
    place = next(place for place, op in enumerate(network.ops) if op.name == name)
    op = network.ops[place]
    (source,) = op.inputs
    function, label, reach = _GATES[gate]
    common: dict[str, Any] = {"shape": op.shape, "place": op.place}
    divided = ChannelDivision(name=f"{name}.gated", inputs=(source,), divisor=ranges[f"{name}.gated"], **common)
    made = Function(name=f"{name}.gate", inputs=(source,), function=function, label=label, reach=reach, **common)
    product = GatedProduct(name=name, inputs=(divided.name, made.name), **common)
    network.ops[place : place + 1] = [divided, made, product]
    return name


def _divide(network: FloatNetwork, source: str, name: str, divisor: Tensor, factor: Tensor) -> None:
    """Divide a value by channel, and multiply the weights of the convolutions that read it by a factor."""
    place = next(place for place, op in enumerate(network.ops) if op.name == source)
    op = network.ops[place]
    divided = ChannelDivision(
        name=f"{name}.channels", inputs=(source,), shape=op.shape, place=op.place, divisor=divisor
    )
    for reader in network.readers()[source]:
        if not isinstance(reader, Conv):
            raise AssertionError(reader.name)
        reader.inputs = (divided.name,)
        if _is_depthwise(reader):
            repeated = factor.repeat_interleave(len(reader.weight) // len(factor))
            reader.weight = reader.weight * repeated.reshape(-1, 1, 1, 1)
        else:
            reader.weight = reader.weight * factor.reshape(1, -1, 1, 1)
    network.ops.insert(place + 1, divided)
