"""Brings a captured network into a form that integers can represent, without changing what it computes.

Batch norm and constants by channel go to a layer beside them, or become a layer of their own; zero padding goes into
the convolution or pool that reads it; ReLU moves in front of pools and padding, where the integer network still has
its exact sums.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from nybble.graph import Padding, Pair
from nybble.quantize.errors import CaptureError
from nybble.quantize.ir import affine, picked_channels
from nybble.quantize.ir.float_network import (
    INPUT,
    Affine,
    AvgPool,
    Concat,
    Conv,
    Crop,
    Enlarge,
    FloatNetwork,
    Interpolate,
    MaxPool,
    Norm,
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


def fold(network: FloatNetwork) -> FloatNetwork:
    """A network with the same answers that contains only operations that integers can express.

    Raises
    ------
    CaptureError
        Naming the source line of an operation that has no such form.
    """
    folded = replace(network, ops=[replace(op) for op in network])
    changes = (
        _join_means,
        join_limits,
        _move_shuffles,
        _move_rectifiers,
        _fold_padding,
        _double,
        _compose,
        _attach,
        _keep_picked,
        _drop_idle,
    )
    for change in changes:
        change(folded)
    return folded


def fold_norm(op: Weighted) -> tuple[Tensor, Tensor]:
    """Weights and bias of a layer with its batch norm multiplied in, computed in float64, returned in float32."""
    weight = op.weight.double()
    bias = torch.zeros(len(weight), dtype=torch.float64, device=weight.device) if op.bias is None else op.bias.double()
    if op.norm is not None:
        factor = op.norm.gain.double() / torch.sqrt(op.norm.variance.double() + op.norm.eps)
        weight = weight * factor.reshape(-1, *[1] * (weight.dim() - 1))
        bias = (bias - op.norm.mean.double()) * factor + op.norm.offset.double()
    if not bool(torch.isfinite(weight).all()) or not bool(torch.isfinite(bias).all()):
        raise CaptureError(f"{op.name}: its weights hold infinity or NaN")
    return weight.float(), bias.float()


def nonnegative(network: FloatNetwork) -> set[str]:
    """Names of the values that cannot be negative."""
    found: set[str] = set()
    for op in network:
        if op.is_nonnegative(found):
            found.add(op.name)
    return found


def _remove(network: FloatNetwork, op: Op) -> None:
    """Remove an operation: its readers read its input. If its result was the output, its input becomes the output."""
    (source,) = op.inputs
    if op.name == network.output and source == INPUT:
        return
    if op.name == network.output and source != network.ops[-2].name:
        raise CaptureError(f"{op.place}: the network's result must come from its last operation")
    network.ops.remove(op)
    for reader in network:
        reader.inputs = tuple(source if name == op.name else name for name in reader.inputs)


def _join_means(network: FloatNetwork) -> None:
    """Merge a mean over rows and one over columns into one mean, which is rounded once."""
    for op in [op for op in network if isinstance(op, AvgPool)]:
        source = op.inputs[0]
        before = network[source] if source != INPUT else None
        if not isinstance(before, AvgPool) or len(network.readers()[source]) != 1:
            continue
        both = (before, op)
        if any(entry.kernel_size != entry.stride or any(entry.padding) or entry.ceil_mode for entry in both):
            continue
        extents = network.shapes()[before.inputs[0]][1:]
        window = Pair(*(first * second for first, second in zip(before.kernel_size, op.kernel_size, strict=True)))
        if any(extent % size for extent, size in zip(extents, window, strict=True)):
            continue
        op.kernel_size = op.stride = window
        _remove(network, before)


def join_limits(network: FloatNetwork) -> None:
    """Give every limit the minimum 0. A limit without it may get it from its input or from its only reader.

    Raises
    ------
    CaptureError
        Naming one that would let negative values pass.
    """
    for op in [op for op in network if isinstance(op, Rectifier) and op.minimum != 0]:
        readers = network.readers()[op.name]
        if op.inputs[0] in nonnegative(network):
            op.minimum = 0.0
        elif readers and all(isinstance(reader, Rectifier) and reader.minimum == 0 for reader in readers):
            for reader in readers:
                if isinstance(reader, Rectifier):
                    reader.maximum = _lower(reader.maximum, op.maximum)
            _remove(network, op)
        else:
            limits = "..".join("" if limit is None else f"{limit:g}" for limit in (op.minimum, op.maximum))
            raise CaptureError(
                f"{op.place}: clips to {limits}; the lower end must be 0 where values may be negative; use ReLU6"
            )


def _lower(*limits: float | None) -> float | None:
    given = [limit for limit in limits if limit is not None]
    return min(given) if given else None


def _double(network: FloatNetwork) -> None:
    """Replace the sum of a value and itself by a multiplication by two."""
    device = next((op.weight.device for op in network if isinstance(op, Weighted)), None)
    for place, op in enumerate(network.ops):
        if isinstance(op, Sum) and op.inputs[0] == op.inputs[1]:
            two = torch.full((op.shape[0],), 2.0, device=device)
            network.ops[place] = Affine(
                name=op.name,
                inputs=op.inputs[:1],
                shape=op.shape,
                place=op.place,
                gain=two,
                offset=torch.zeros_like(two),
            )


def _move_rectifiers(network: FloatNetwork) -> None:
    """Put every ReLU right behind a layer or an addition."""
    moved = True
    while moved:
        moved = False
        readers = network.readers()
        positive = nonnegative(network)
        for position, op in enumerate(network.ops):
            if not isinstance(op, Rectifier):
                continue
            source = op.inputs[0]
            if source in positive and op.maximum is None:
                _remove(network, op)
                moved = True
                break
            if source == INPUT:
                raise CaptureError(f"{op.place}: the network's input cannot pass through a ReLU; leave it out")
            before = network[source]
            alone = len(readers[source]) == 1
            if isinstance(before, MaxPool | Pad) and alone:
                # ReLU commutes with the maximum, and keeps zero.
                at = network.ops.index(before)
                del network.ops[position]
                network.ops.insert(at, op)
                after = readers[op.name]
                op.inputs, op.shape = before.inputs, network.shapes()[before.inputs[0]]
                before.inputs = (op.name,)
                for reader in after:
                    reader.inputs = tuple(before.name if name == op.name else name for name in reader.inputs)
                moved = True
                break
            if isinstance(before, Concat) and alone:
                _put_before(network, op, before)
                moved = True
                break
            if isinstance(before, Rectifier):
                op.maximum = _lower(op.maximum, before.maximum)
                op.inputs = before.inputs
                if alone:
                    network.ops.remove(before)
                moved = True
                break
            if not before.gives_sums:
                _insert_sums(network, op, position)
                moved = True
                break


def _insert_sums(network: FloatNetwork, op: Rectifier, position: int) -> None:
    """Let a ReLU of codes read sums, which are the codes times one."""
    name, names = f"{op.name}.sums", network.shapes()
    while name in names:
        name += "_"
    device = next((entry.weight.device for entry in network if isinstance(entry, Weighted)), None)
    one = torch.ones(op.shape[0], device=device)
    kept = Affine(name=name, inputs=op.inputs, shape=op.shape, place=op.place, gain=one, offset=torch.zeros_like(one))
    network.ops.insert(position, kept)
    op.inputs = (name,)


def _put_before(network: FloatNetwork, op: Rectifier, joined: Concat) -> None:
    """Move a ReLU from the result of a concatenation to its inputs."""
    shapes = network.shapes()
    place = network.ops.index(joined)
    network.ops.remove(op)
    made: dict[str, str] = {}
    for source in dict.fromkeys(joined.inputs):
        name = f"{op.name}.{len(made)}"
        while name in shapes:
            name += "_"
        made[source] = name
        single = Rectifier(name=name, inputs=(source,), shape=shapes[source], place=op.place, maximum=op.maximum)
        network.ops.insert(place + len(made) - 1, single)
    joined.inputs = tuple(made[name] for name in joined.inputs)
    for reader in network:
        reader.inputs = tuple(joined.name if name == op.name else name for name in reader.inputs)


def _fold_padding(network: FloatNetwork) -> None:
    positive = nonnegative(network)
    for op in [op for op in network if isinstance(op, Pad)]:
        if any(op.channels):
            _merge_into_channels(network, op)
            continue
        readers = network.readers()[op.name]
        if readers and all(_takes_padding(reader, op, positive) for reader in readers):
            for reader in readers:
                if isinstance(reader, Conv | MaxPool | AvgPool | Pad):
                    pairs = zip(reader.padding, op.padding, strict=True)
                    reader.padding = Padding(*(own + more for own, more in pairs))
                if isinstance(reader, AvgPool):
                    # Zeros of a Pad count as values.
                    reader.count_include_pad = True
            _remove(network, op)


def _takes_padding(reader: Op, op: Pad, positive: set[str]) -> bool:
    """Whether a reader's own padding, enlarged, does the same."""
    if isinstance(reader, Conv):
        return True
    if isinstance(reader, Pad):
        return reader.stride == (1, 1)
    if isinstance(reader, MaxPool):
        # Padding of a max pool is never the maximum; nor are zeros if nothing is negative, unless a window contains
        # only them.
        spans = [spread * (extent - 1) for spread, extent in zip(reader.dilation, reader.kernel_size, strict=True)]
        total = [own + more for own, more in zip(reader.padding, op.padding, strict=True)]
        fits = max(total[0], total[2]) <= spans[0] and max(total[1], total[3]) <= spans[1]
        return op.inputs[0] in positive and fits and reader.dilation == (1, 1) and not reader.ceil_mode
    if isinstance(reader, AvgPool):
        total = [own + more for own, more in zip(reader.padding, op.padding, strict=True)]
        fits = (
            max(total[0], total[2]) < reader.kernel_size.rows and max(total[1], total[3]) < reader.kernel_size.columns
        )
        return fits and not reader.ceil_mode and (reader.count_include_pad or not any(reader.padding))
    return False


def _merge_into_channels(network: FloatNetwork, op: Pad) -> None:
    """Let padding of channels skip the rows and columns that a pool of 1x1 before it skips."""
    before = network[op.inputs[0]] if op.inputs[0] != INPUT else None
    if not isinstance(before, MaxPool) or before.kernel_size != (1, 1) or any(before.padding) or before.ceil_mode:
        return
    if len(network.readers()[before.name]) == 1:
        op.stride = Pair(op.stride.rows * before.stride.rows, op.stride.columns * before.stride.columns)
        _remove(network, before)
        _merge_into_channels(network, op)


def _attach(network: FloatNetwork) -> None:
    affine.attach(network, _remove)


def _compose(network: FloatNetwork) -> None:
    """Before constants go to layers behind: those of picked channels belong to these."""
    affine.attach_behind(network, _remove)
    picked_channels.compose(network, _remove)


def _move_shuffles(network: FloatNetwork) -> None:
    """Move operations on single channels before operations that only move pixels: the exact sums are there."""
    moved = True
    while moved:
        moved = False
        readers = network.readers()
        for op in [op for op in network if isinstance(op, Shuffle | Crop | Enlarge | Interpolate | Surround)]:
            if len(readers[op.name]) != 1 or op.inputs[0] == INPUT:
                continue
            (reader,) = readers[op.name]
            if not isinstance(reader, Norm | Affine | Slopes | Rectifier):
                continue
            if isinstance(op, Interpolate) and not isinstance(reader, Norm | Affine):
                continue
            times = op.block.rows * op.block.columns if isinstance(op, Shuffle) else 1
            repeated = {
                name: value.repeat_interleave(times)
                for name, value in vars(reader).items()
                if isinstance(value, Tensor)
            }
            before = network[op.inputs[0]]
            ahead = replace(reader, inputs=op.inputs, shape=before.shape, **repeated)
            behind = replace(op, inputs=(ahead.name,))
            places = [next(i for i, entry in enumerate(network.ops) if entry is part) for part in (op, reader)]
            network.ops[places[0]], network.ops[places[1]] = ahead, behind
            for entry in network:
                if entry is not behind:
                    entry.inputs = tuple(op.name if name == reader.name else name for name in entry.inputs)
            moved = True
            break


def _keep_picked(network: FloatNetwork) -> None:
    """Move picked channels that no layer includes as codes, unless a ReLU needs their sums."""
    for place, op in enumerate(network.ops):
        if not isinstance(op, Conv) or op.bias is not None or not picked_channels.picks(op):
            continue
        matrix = op.weight[:, :, 0, 0]
        readers = network.readers()[op.name]
        if not bool((matrix.sum(1) == 1).all()) or any(isinstance(reader, Rectifier | Slopes) for reader in readers):
            continue
        channels = tuple(int(channel) for channel in matrix.argmax(1))
        network.ops[place] = Pick(name=op.name, inputs=op.inputs, shape=op.shape, place=op.place, channels=channels)


def _drop_idle(network: FloatNetwork) -> None:
    """Remove pools and padding that have no effect."""
    for op in list(network):
        idle = isinstance(op, MaxPool | AvgPool) and op.kernel_size == op.stride == (1, 1) and not any(op.padding)
        if idle or (isinstance(op, Pad) and op.stride == (1, 1) and not any(op.padding) and not any(op.channels)):
            _remove(network, op)
