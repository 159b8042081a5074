"""Channels that are selected, reordered, scaled one by one, and joined again.

Networks with weights from TensorFlow or Caffe scale their input in this way, or swap red and blue. Selected channels
are 1x1 convolutions in which each output reads one channel; here they are merged into the layers behind them, exactly.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nybble.graph import Padding
from nybble.quantize.ir.affine import Remove
from nybble.quantize.ir.float_network import Affine, Concat, Conv, Dense, FloatNetwork, Op, Weighted


def compose(network: FloatNetwork, remove: Remove) -> None:
    """Join picked channels of one value, and let the layers behind read the value itself."""
    for joined in [op for op in network if isinstance(op, Concat)]:
        _join(network, joined)
    for picked in [op for op in network if isinstance(op, Conv) and picks(op)]:
        if _is_in_order(picked):
            _scale_only(network, picked)
        else:
            _read_through(network, picked, remove)


def picks(op: Op) -> bool:
    """Whether each output is one channel times a number, plus one."""
    if not isinstance(op, Conv) or op.norm is not None or op.groups != 1 or op.weight.shape[2:] != (1, 1):
        return False
    plain = op.stride == (1, 1) and op.padding == Padding()
    return plain and bool(((op.weight != 0).flatten(1).sum(1) <= 1).all())


def _join(network: FloatNetwork, op: Concat) -> None:
    """Picked channels of one value that nothing else reads become one convolution."""
    readers = network.readers()
    parts = [network[name] for name in op.inputs if name in {entry.name for entry in network}]
    if len(parts) != len(op.inputs) or len({part.name for part in parts}) != len(parts):
        return
    convolutions = [part for part in parts if isinstance(part, Conv) and picks(part)]
    sources = {part.inputs for part in convolutions}
    if len(convolutions) != len(parts) or len(sources) > 1 or any(len(readers[part.name]) != 1 for part in parts):
        return
    weight = torch.cat([part.weight for part in convolutions])
    biases = [_bias(part) for part in convolutions]
    joined = Conv(name=op.name, inputs=sources.pop(), shape=op.shape, place=op.place, weight=weight)
    joined.bias = torch.cat(biases) if any(part.bias is not None for part in convolutions) else None
    network.ops[network.ops.index(op)] = joined
    network.ops = [entry for entry in network.ops if not any(entry is part for part in parts)]


def _bias(op: Weighted) -> Tensor:
    return op.weight.new_zeros(len(op.weight)) if op.bias is None else op.bias


def _is_in_order(op: Conv) -> bool:
    matrix = op.weight[:, :, 0, 0]
    return matrix.shape[0] == matrix.shape[1] and bool((matrix == torch.diag(matrix.diagonal())).all())


def _scale_only(network: FloatNetwork, op: Conv) -> None:
    gain = op.weight[:, :, 0, 0].diagonal().contiguous()
    affine = Affine(name=op.name, inputs=op.inputs, shape=op.shape, place=op.place, gain=gain, offset=_bias(op))
    network.ops[network.ops.index(op)] = affine


def _read_through(network: FloatNetwork, op: Conv, remove: Remove) -> None:
    readers = network.readers()[op.name]
    moves = op.bias is not None and bool(op.bias.any())
    for reader in readers:
        fits = isinstance(reader, Dense) or (isinstance(reader, Conv) and reader.groups == 1)
        if not fits or (moves and isinstance(reader, Conv) and any(reader.padding)):
            return
    if not readers:
        return
    matrix = op.weight[:, :, 0, 0].double()
    for reader in readers:
        if isinstance(reader, Weighted):
            weight = reader.weight.double().reshape(len(reader.weight), len(matrix), -1)
            if moves:
                offset = torch.einsum("kcs,c->k", weight, _bias(op).double())
                reader.bias = (_bias(reader).double() + offset).float()
            inputs = torch.einsum("kcs,ci->kis", weight, matrix)
            shape = (len(weight), -1) if isinstance(reader, Dense) else (len(weight), -1, *reader.weight.shape[2:])
            reader.weight = inputs.reshape(shape).float().contiguous()
    remove(network, op)
