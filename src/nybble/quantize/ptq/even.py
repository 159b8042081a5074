"""Channels of one size in every value, as far as factors can be moved to the weights beside it.

All channels of a value are rounded with one step, and so is everything that a concatenation joins, because it copies
codes. Where one part has a range of 0.6 and another one of 0.007, a code or two are left of the second. Dividing each
channel by what suits it, and multiplying the weights that read it, removes this: cross-layer equalisation (Nagel, van
Baalen, Blankevoort and Welling 2019), by the activations' ranges and over whole networks rather than pairs of layers.

Factors pass through what is positively homogeneous: ReLU, PReLU, pools, resizing, additions whose operands have the
same factors, concatenations. Layers with weights end them: rows of the layer that makes a channel are divided, columns
of those that read it are multiplied. Weights have a step for each row, so the first costs nothing. The second costs
nothing where an output reads one channel, and such channels are divided by their share of the value's range. Other
layers have one step over the channels that they read: those channels are divided by the square root of their share.
What neither makes nor ends factors (the network's input, its results, ReLU6, tables, products) has a factor of 1, and
so has all that is connected with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from nybble.quantize.errors import QuantizeError
from nybble.quantize.ir.float_network import (
    INPUT,
    AvgPool,
    ChannelDivision,
    Concat,
    Conv,
    Crop,
    Dense,
    Enlarge,
    FloatNetwork,
    Interpolate,
    MaxPool,
    Op,
    Pad,
    Pick,
    Rectifier,
    Shuffle,
    Slopes,
    Sum,
    Surround,
    Weighted,
)
from nybble.quantize.prepare.joined import joined_values, origin_of
from nybble.quantize.ptq.blocks import first_images
from nybble.quantize.ptq.magnitudes import widen

#: Of the widest channel's range, the least that a channel is given: a nearly dead one would only be noise.
_LEAST = 2.0**-8
#: Each channel of their result is a function of the same channel that lets positive factors pass.
_BY_CHANNEL = (AvgPool, Crop, Enlarge, Interpolate, MaxPool, Slopes, Surround)


@dataclass(frozen=True)
class EvenChannels:
    """A value, and the smallest and the largest factor that channels of it were divided by."""

    name: str
    smallest: float
    largest: float


@torch.no_grad()
def even_channels(
    network: FloatNetwork, batches: Iterable[Any], *, images: int | None = None
) -> tuple[FloatNetwork, list[EvenChannels]]:
    """Divide channels by factors that make their ranges alike. The network computes the same function.

    It belongs before ``prepare_captured``. A channel's range is the largest magnitude seen. No value gets a wider
    range. Channels that cannot be divided keep theirs, and what is joined with them gets that one.

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
    list of EvenChannels
        Values that are rounded and whose channels were divided; empty where there are none.

    Raises
    ------
    QuantizeError
        If no image was given.
    """
    made = replace(network, ops=[replace(op) for op in network])
    edges = _divided_edges(made)
    classes = _Classes(made)
    rounded = [names for names in _rounded(made) if bool(classes.free[_classes_of(classes, names)].any())]
    if not rounded:
        return network, []
    ranges = _ranges(made, {name for names in rounded for name in names}, batches, images)
    factors = _factors(classes, rounded, ranges, _shared(made, classes))
    for op in list(made):
        _apply(op, classes, factors)
    _settle_edges(made, edges)
    found = []
    for name in (name for names in rounded for name in names):
        own = factors[classes.of(name)]
        if bool((own != 1).any()):
            found.append(EvenChannels(name, float(own.min()), float(own.max())))
    return made, found


def _divided_edges(network: FloatNetwork) -> list[ChannelDivision]:
    """Put divisions where concatenations read codes of another quantizer, which are rounded once more anyway."""
    joined = joined_values(network)
    found = []
    for op in [op for op in network if isinstance(op, Concat)]:
        inputs = list(op.inputs)
        for place, source in enumerate(inputs):
            if origin_of(network, source) in joined:
                continue
            shape = network.shapes()[source]
            divided = ChannelDivision(
                name=f"{op.name}.part_{place + 1}",
                inputs=(source,),
                shape=shape,
                place=op.place,
                divisor=torch.ones(shape[0], device=_device(network)),
            )
            network.ops.insert(network.ops.index(op), divided)
            inputs[place] = divided.name
            found.append(divided)
        op.inputs = tuple(inputs)
    return found


def _settle_edges(network: FloatNetwork, edges: Sequence[ChannelDivision]) -> None:
    """Take out the divisions that divide by nothing."""
    for edge in edges:
        if bool((edge.divisor == 1).all()):
            network.ops = [op for op in network if op is not edge]
            for reader in network:
                reader.inputs = tuple(edge.inputs[0] if name == edge.name else name for name in reader.inputs)


def _device(network: FloatNetwork) -> torch.device | None:
    return next((op.weight.device for op in network if isinstance(op, Weighted)), None)


class _Classes:
    """Channels of all values in classes with one factor each.

    Attributes
    ----------
    free : Tensor
        bool, by class: whether its factor may differ from 1.
    """

    def __init__(self, network: FloatNetwork) -> None:
        self._parents: list[int] = []
        self._pinned: set[int] = set()
        self._labels: dict[str, list[int]] = {INPUT: self._fresh(network.input_shape[0], pinned=True)}
        for op in network:
            self._labels[op.name] = self._made(op)
            if not _passes(op):
                self._pinned.update(label for name in op.inputs for label in self._labels[name])
        if not network.results:
            self._pinned.update(self._labels[network.output])
        roots = [self._root(label) for label in range(len(self._parents))]
        fixed = {self._root(label) for label in self._pinned}
        self._index = torch.tensor(roots)
        self.free = torch.tensor([root not in fixed for root in roots])

    def of(self, name: str) -> Tensor:
        """(C,) int64: the class of each channel of a value."""
        return self._index[torch.tensor(self._labels[name])]

    def _made(self, op: Op) -> list[int]:
        labels = [self._labels[name] for name in op.inputs]
        if isinstance(op, Weighted | ChannelDivision):
            return self._fresh(op.shape[0])
        if not _passes(op):
            return self._fresh(op.shape[0], pinned=True)
        if isinstance(op, Concat):
            return [label for part in labels for label in part]
        first = labels[0]
        if isinstance(op, Sum):
            for left, right in zip(*labels, strict=True):
                self._join(left, right)
        elif isinstance(op, Pick):
            return [first[channel] for channel in op.channels]
        elif isinstance(op, Shuffle):
            size = op.block.rows * op.block.columns
            for place, label in enumerate(first):
                self._join(label, first[place // size * size])
            return first[::size]
        elif isinstance(op, Pad):
            before, behind = op.channels
            return [*self._fresh(before, pinned=True), *first, *self._fresh(behind, pinned=True)]
        return first

    def _fresh(self, count: int, *, pinned: bool = False) -> list[int]:
        first = len(self._parents)
        found = list(range(first, first + count))
        self._parents += found
        if pinned:
            self._pinned.update(found)
        return found

    def _root(self, label: int) -> int:
        while self._parents[label] != label:
            self._parents[label] = self._parents[self._parents[label]]
            label = self._parents[label]
        return label

    def _join(self, left: int, right: int) -> None:
        self._parents[self._root(left)] = self._root(right)


def _passes(op: Op) -> bool:
    """Whether factors of what it reads are known behind it, or end in its weights."""
    if isinstance(op, Rectifier):
        return op.maximum is None and op.minimum == 0
    if isinstance(op, Weighted):
        return type(op) in (Conv, Dense)
    return isinstance(op, (*_BY_CHANNEL, Concat, Sum, Pick, Shuffle, Pad))


def _rounded(network: FloatNetwork) -> list[tuple[str, ...]]:
    """Values by the quantizers that round them: what is joined together, and every other value by itself."""
    joined = joined_values(network)
    groups = [found.results for found in {id(entry): entry for entry in joined.values()}.values()]
    readers = network.readers()
    for op in network:
        reading = readers[op.name]
        if op.keeps_codes or op.name in joined or all(isinstance(entry, Rectifier | Slopes) for entry in reading):
            continue
        # A layer's sums that an addition takes as they are.
        if not (isinstance(op, Weighted) and len(reading) == 1 and isinstance(reading[0], Sum)):
            groups.append((op.name,))
    return groups


def _classes_of(classes: _Classes, names: Iterable[str]) -> Tensor:
    return torch.cat([classes.of(name) for name in names])


def _ranges(network: FloatNetwork, wanted: set[str], batches: Iterable[Any], images: int | None) -> dict[str, Tensor]:
    """(C,) by value: the largest magnitude of each channel."""
    found: dict[str, Tensor] = {}
    for batch in first_images(batches, images):
        for op, values in network.steps(batch):
            if op.name in wanted:
                widen(found, op.name, values[op.name])
    if not found:
        raise QuantizeError("channels cannot be scaled by no images; pass at least one batch")
    return {name: largest.cpu() for name, largest in found.items()}


def _factors(classes: _Classes, groups: Sequence[Sequence[str]], ranges: dict[str, Tensor], shared: Tensor) -> Tensor:
    """(classes,): what each one is divided by.

    Of several values with the same factors, the one that allows least decides.
    """
    share = torch.zeros(len(classes.free))
    for names in groups:
        members = _classes_of(classes, names)
        reach = torch.zeros(len(share)).scatter_reduce(0, members, torch.cat([ranges[name] for name in names]), "amax")
        inside = torch.zeros(len(share), dtype=torch.bool)
        inside[members] = True
        fixed = inside & ~classes.free
        # What cannot be divided says the step, or else what is widest.
        common = float(reach[fixed].max()) if bool(fixed.any()) else float(reach.max())
        if common <= 0:
            common = float(reach.max()) or 1.0
        share = torch.where(inside, torch.maximum(share, reach / common), share)
    divided = classes.free & (share > 0)
    share = share.clamp_min(_LEAST)
    return torch.where(divided, torch.where(shared, share.sqrt(), share), torch.ones_like(share))


def _shared(network: FloatNetwork, classes: _Classes) -> Tensor:
    """(classes,) bool: whether weights that read it share a step with those of other channels."""
    found = torch.zeros(len(classes.free), dtype=torch.bool)
    for op in network:
        if isinstance(op, Conv | Dense):
            read = classes.of(op.inputs[0])
            if _by_channel(op, len(read)).shape[2] > 1:
                found[read] = True
    return found


def _by_channel(op: Conv | Dense, channels: int) -> Tensor:
    """A layer's weights as (groups, rows, channels of a group, ...)."""
    if isinstance(op, Conv):
        return op.weight.reshape(op.groups, len(op.weight) // op.groups, *op.weight.shape[1:])
    return op.weight.reshape(1, len(op.weight), channels, -1)


def _apply(op: Op, classes: _Classes, factors: Tensor) -> None:
    """Divide what an operation makes, and multiply the weights by which it reads."""
    made = factors[classes.of(op.name)]
    if isinstance(op, ChannelDivision):
        op.divisor = op.divisor * made.to(op.divisor.device)
    if not isinstance(op, Weighted):
        return
    read = factors[classes.of(op.inputs[0])]
    if isinstance(op, Conv | Dense) and bool((read != 1).any()):
        weight = _by_channel(op, len(read))
        groups, _, channels = weight.shape[:3]
        factor = read.to(weight.device).reshape(groups, 1, channels, *[1] * (weight.dim() - 3))
        op.weight = (weight * factor).reshape(op.weight.shape)
    if bool((made != 1).any()):
        _divide_rows(op, made.to(op.weight.device))


def _divide_rows(op: Weighted, factor: Tensor) -> None:
    if op.norm is not None:
        op.norm = replace(op.norm, gain=op.norm.gain / factor, offset=op.norm.offset / factor)
        return
    op.weight = op.weight / factor.reshape(-1, *[1] * (op.weight.dim() - 1))
    if op.bias is not None:
        op.bias = op.bias / factor
