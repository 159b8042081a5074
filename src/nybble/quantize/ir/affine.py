"""Merges constants by channel and batch norm into a layer before or behind, or makes a layer of them.

All of this is exact in real numbers. Merging into a layer behind requires that no zero padding comes between: the
constants would change the zeros around the image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from nybble.quantize.errors import CaptureError
from nybble.quantize.ir.float_network import (
    INPUT,
    Affine,
    AvgPool,
    Conv,
    Dense,
    FloatNetwork,
    MaxPool,
    Norm,
    Op,
    Pool,
    Rectifier,
    Weighted,
)

#: Weights of a linear layer that stands for constants of a vector.
_MOST_WEIGHTS = 1 << 24
#: Removes an operation: its readers then read its input.
Remove = Callable[[FloatNetwork, Op], None]


def attach(network: FloatNetwork, remove: Remove) -> None:
    """Remove every :class:`Norm` and :class:`Affine` from a network."""
    for op in [op for op in network if isinstance(op, Norm | Affine)]:
        if not any(op is entry for entry in network):
            continue
        if _behind(network, op, remove):
            continue
        if isinstance(op, Norm) and len(op.shape) == 3:
            _own_norm(network, op)
            continue
        affine = _plain(network, op)
        _merge_next(network, affine, remove)
        if not _ahead(network, affine, remove):
            _own(network, affine)


def attach_behind(network: FloatNetwork, remove: Remove) -> None:
    """Only into the layers before, where that is possible."""
    for op in [op for op in network if isinstance(op, Norm | Affine)]:
        _behind(network, op, remove)


def _behind(network: FloatNetwork, op: Norm | Affine, remove: Remove) -> bool:
    """Multiply it into the layer before, through what it commutes with."""
    readers = network.readers()
    between: list[Op] = []
    source = op.inputs[0]
    while source != INPUT and len(readers[source]) == 1:
        before = network[source]
        if isinstance(before, Weighted):
            break
        if not isinstance(op, Affine) or not _commutes(op, before):
            return False
        between.append(before)
        source = before.inputs[0]
    else:
        return False
    if any(isinstance(entry, Pool) for entry in between) and any(isinstance(r, Rectifier) for r in readers[op.name]):
        # A ReLU needs sums to work on: those of a layer, which pools do not give.
        return False
    if isinstance(op, Norm) and before.norm is None:
        before.norm = op
    else:
        _scale(before, op)
    for entry in between:
        if isinstance(entry, Rectifier) and isinstance(op, Affine) and entry.maximum is not None:
            entry.maximum *= float(op.gain[0])
    remove(network, op)
    return True


def _commutes(op: Affine, before: Op) -> bool:
    rises, moves = bool((op.gain > 0).all()), bool(op.offset.any())
    if isinstance(before, Rectifier):
        same = bool((op.gain == op.gain[0]).all())
        return rises and not moves and (before.maximum is None or same)
    if isinstance(before, MaxPool):
        return rises
    if isinstance(before, AvgPool):
        return not moves or not any(before.padding) or not before.count_include_pad
    return False


def _scale(layer: Weighted, op: Norm | Affine) -> None:
    gain, offset = _constants(op)
    if layer.norm is not None:
        norm = layer.norm
        layer.norm = replace(
            norm,
            gain=(norm.gain.double() * gain).float(),
            offset=(norm.offset.double() * gain + offset).float(),
        )
        return
    weight = layer.weight.double() * gain.reshape(-1, *[1] * (layer.weight.dim() - 1))
    bias = offset if layer.bias is None else layer.bias.double() * gain + offset
    layer.weight, layer.bias = weight.float(), bias.float() if layer.bias is not None or bool(bias.any()) else None


def _constants(op: Norm | Affine) -> tuple[Tensor, Tensor]:
    """Factor and offset by channel, float64."""
    if isinstance(op, Affine):
        return op.gain.double(), op.offset.double()
    factor = op.gain.double() / torch.sqrt(op.variance.double() + op.eps)
    return factor, op.offset.double() - op.mean.double() * factor


def _plain(network: FloatNetwork, op: Norm | Affine) -> Affine:
    """The same as an :class:`Affine`, in its place."""
    if isinstance(op, Affine):
        return op
    gain, offset = _constants(op)
    plain = Affine(
        name=op.name, inputs=op.inputs, shape=op.shape, place=op.place, gain=gain.float(), offset=offset.float()
    )
    _put(network, op, plain)
    return plain


def _merge_next(network: FloatNetwork, op: Affine, remove: Remove) -> None:
    """Merge constants that are the only reader of the result."""
    while len(readers := network.readers()[op.name]) == 1 and isinstance(following := readers[0], Affine | Norm):
        gain, offset = _constants(following)
        op.offset = (op.offset.double() * gain + offset).float()
        op.gain = (op.gain.double() * gain).float()
        remove(network, following)


def _ahead(network: FloatNetwork, op: Affine, remove: Remove) -> bool:
    """Multiply it into the layers that read it, if nothing else does."""
    readers = network.readers()[op.name]
    moves = bool(op.offset.any())
    if not readers or not all(isinstance(reader, Weighted) for reader in readers):
        return False
    if moves and any(isinstance(reader, Conv) and any(reader.padding) for reader in readers):
        return False
    for reader in readers:
        if isinstance(reader, Weighted):
            _take(reader, op)
    remove(network, op)
    return True


def _take(layer: Weighted, op: Affine) -> None:
    gain, offset = op.gain.double(), op.offset.double()
    weight = layer.weight.double()
    if isinstance(layer, Conv):
        # (groups, outputs, inputs, ...): each group reads its own channels.
        grouped = weight.reshape(layer.groups, -1, *weight.shape[1:])
        shape = [layer.groups, 1, weight.shape[1], 1, 1]
    else:
        grouped = weight.reshape(1, len(weight), len(gain), -1)
        shape = [1, 1, len(gain), 1]
    moved = (grouped * offset.reshape(shape)).flatten(2).sum(2).reshape(-1)
    layer.weight = (grouped * gain.reshape(shape)).reshape(weight.shape).float()
    if bool(op.offset.any()):
        layer.bias = (moved if layer.bias is None else layer.bias.double() + moved).float()


def _own(network: FloatNetwork, op: Affine) -> None:
    """A separate layer, which computes each channel from itself."""
    layer: Weighted
    if len(op.shape) == 3:
        weight = op.gain.reshape(-1, 1, 1, 1)
        layer = Conv(name=op.name, inputs=op.inputs, shape=op.shape, weight=weight, groups=len(weight))
    else:
        if len(op.gain) ** 2 > _MOST_WEIGHTS:
            raise CaptureError(f"{op.place}: constants of {len(op.gain)} channels need a linear layer beside them")
        layer = Dense(name=op.name, inputs=op.inputs, shape=op.shape, weight=torch.diag(op.gain))
    layer.place = op.place
    layer.bias = op.offset if bool(op.offset.any()) else None
    _put(network, op, layer)


def _own_norm(network: FloatNetwork, op: Norm) -> None:
    """Times one, and the batch norm behind it, whose statistics can then be taken anew."""
    weight = torch.ones(op.shape[0], 1, 1, 1, device=op.gain.device)
    layer = Conv(
        name=op.name,
        inputs=op.inputs,
        shape=op.shape,
        place=op.place,
        weight=weight,
        groups=op.shape[0],
        norm=replace(op),
    )
    _put(network, op, layer)


def _put(network: FloatNetwork, op: Op, other: Op) -> None:
    place = next(i for i, entry in enumerate(network.ops) if entry is op)
    network.ops[place] = other
