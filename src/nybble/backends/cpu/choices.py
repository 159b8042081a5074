"""The choices for a network: a kernel for each convolution, an order for each value's channels.

Every legal choice gives bit-identical results; only the time differs.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from nybble.backends.cpu.kernel import Kernel
from nybble.backends.cpu.lowered import lowered
from nybble.backends.cpu.order import Order, order_classes
from nybble.backends.cpu.rows import LIST_GROUPS, layer, rows
from nybble.graph import Graph
from nybble.graph.errors import NybbleError
from nybble.lower import Step, fuse

#: The values that the tuner tries, of those that the rows allow.
BLOCK_OUTPUTS = (32, 64, 96, 128, 192, 256)
TILE_PIXELS = (16, 32, 64)
VISIT_BYTES = (12 << 10, 24 << 10, 32 << 10, 64 << 10)


class ChoiceError(NybbleError, ValueError):
    """Raised for a choice that does not fit the network or the instruction set; the text says which and why."""


@dataclass(frozen=True)
class Choices:
    """Kernels by the output of their step, and channel orders by value. Steps and values that are absent keep the
    default.

    Values that must share one order (:func:`nybble.backends.cpu.order.order_classes`) are all named, or none.
    """

    kernels: Mapping[str, Kernel] = field(default_factory=dict)
    orders: Mapping[str, Order] = field(default_factory=dict)


def convolutions(graph: Graph) -> dict[str, Step]:
    """The steps that begin with a convolution or linear layer, by their output."""
    return {step.output: step for step in fuse(graph) if step.conv is not None}


def methods(step: Step, isa: str) -> list[str]:
    """Methods that may be chosen for a convolution on an instruction set. The first is ``direct``, the portable one."""
    asked = layer(step)
    return [name for name, row in rows(isa).items() if row.why_not_chosen(asked) is None]


def list_blocks(step: Step, isa: str, method: str) -> list[int]:
    """Groups in a block of the lists that a method reads for a convolution; none where it cannot run it.

    If sums have 16 bits, the worst sum of a block fits for any weights of this type. So a network that was converted
    from four bits to eight, whose weights are small, runs like any other 8-bit network.
    """
    row, asked = rows(isa).get(method), layer(step)
    return [] if row is None or row.why_not_chosen(asked) is not None else row.list_blocks(asked)


def why_illegal(step: Step, isa: str, kernel: Kernel) -> str | None:
    """The reason why a kernel cannot run a convolution, or ``None``."""
    row, asked = rows(isa).get(kernel.method), layer(step)
    if row is None:
        return f"method {kernel.method!r} cannot run it: {isa} has no such kernel"
    why = row.why_not_chosen(asked)
    if why is not None:
        return f"method {kernel.method!r} cannot run it: it {why}"
    cut = {
        "block_outputs": kernel.block_outputs,
        "tile_pixels": kernel.tile_pixels,
        "visit_bytes": kernel.visit_bytes,
        "list_block": kernel.list_block,
    }
    # Stored choices may contain any number; the native part takes 32 bits.
    wrong = next((name for name, number in cut.items() if not 0 <= number < 1 << 31), None)
    return f"{wrong} {cut[wrong]} is out of range" if wrong is not None else row.why_not_cut(asked, **cut)


def candidates(step: Step, isa: str) -> list[Kernel]:
    """Every kernel that the tuner can choose for a convolution.

    The direct method is a candidate only where no other method can run. Of the blocks that are larger than the layer
    only the smallest is a candidate.
    """
    found: list[Kernel] = []
    for method in methods(step, isa)[::-1]:
        if method == "direct" and found:
            continue
        cuts = itertools.product(block_sizes(step, isa, method), TILE_PIXELS)
        if method in LIST_GROUPS:
            lists = list_blocks(step, isa, method)
            found += [Kernel(method, *cut, visit, block) for cut in cuts for visit in VISIT_BYTES for block in lists]
        else:
            found += [Kernel(method, *cut) for cut in cuts]
    return found


def block_sizes(step: Step, isa: str, method: str) -> list[int]:
    """Values of ``block_outputs`` to try: those that the method allows, up to the first that holds the layer."""
    outputs = step.result.shape[0]
    most = rows(isa)[method].most_outputs
    allowed = [size for size in BLOCK_OUTPUTS if size <= most] or [most]
    return [size for i, size in enumerate(allowed) if i == 0 or allowed[i - 1] < outputs]


def forced(graph: Graph, isa: str, method: str) -> Choices:
    """Choices that use one method wherever the table allows it, in the usual sizes; other layers keep their defaults.

    Raises :class:`ChoiceError` where the instruction set has no such method, or no layer may run by it.
    """
    if method not in rows(isa):
        raise ChoiceError(f"{isa} has no kernel {method!r}; it has {', '.join(rows(isa))}")
    row = rows(isa)[method]
    kernels = {}
    for name, step in convolutions(lowered(graph)).items():
        if method not in methods(step, isa):
            continue
        blocks = list_blocks(step, isa, method)
        outputs = min(row.usual_outputs, block_sizes(step, isa, method)[-1])
        kernels[name] = Kernel(method, outputs, row.usual_pixels, list_block=max(blocks, default=0))
    if not kernels:
        raise ChoiceError(f"kernel {method!r} can run no layer of this network on {isa}")
    return Choices(kernels)


def check(graph: Graph, isa: str, choices: Choices) -> None:
    """Raise :class:`ChoiceError` unless every choice is legal for the network and the instruction set."""
    layers = convolutions(graph)
    for name, kernel in choices.kernels.items():
        if name not in layers:
            raise ChoiceError(f"{name}: there is no such convolution")
        why = why_illegal(layers[name], isa, kernel)
        if why is not None:
            raise ChoiceError(f"{name}: {why}")
    check_orders(fuse(graph), choices.orders)


def check_orders(steps: list[Step], orders: Mapping[str, Order]) -> None:
    """Raise :class:`ChoiceError` unless orders are permutations, the same for values that are tied together."""
    remaining = set(orders)
    channels_of = {step.output: step.result.shape[0] for step in steps}
    for values in order_classes(steps):
        named = remaining.intersection(values)
        if not named:
            continue
        remaining -= named
        channels = channels_of[values[0]]
        first = orders[min(named)]
        if not np.array_equal(np.sort(first), np.arange(channels)):
            raise ChoiceError(f"{values[0]}: the order is not a permutation of {channels} channels")
        if len(named) != len(values) or not all(np.array_equal(orders[name], first) for name in values):
            raise ChoiceError(f"{values[0]}: values that are tied together have different orders")
    if remaining:
        raise ChoiceError(f"{min(remaining)}: the order of this value is not free")
