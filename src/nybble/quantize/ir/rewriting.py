"""Replaces several operations by a single one with the same meaning."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from nybble.quantize.ir.float_network import FloatNetwork, Op


@dataclass(frozen=True)
class Region:
    """Elementwise operations between one value and another.

    Attributes
    ----------
    source : str
        The only value outside the region that they read.
    ops : tuple of Op
        In execution order; the last one makes the result. The results of the others are read only inside the region.
    """

    source: str
    ops: tuple[Op, ...]

    @property
    def result(self) -> str:
        """The name of the value that the last operation makes."""
        return self.ops[-1].name

    def __call__(self, x: Tensor) -> Tensor:
        """The function of one value, for a tensor of any shape (N, C, ...) with the network's channels."""
        values = {self.source: x}
        for op in self.ops:
            values[op.name] = op(*(values[name] for name in op.inputs))
        return values[self.result]

    def of_numbers(self, numbers: Tensor) -> Tensor:
        """The function of each of (N) numbers, where it is the same for all channels."""
        values: Tensor = self(numbers.reshape(-1, 1).expand(-1, self.ops[-1].shape[0]))[:, 0]
        return values

    def is_same_for_all_channels(self) -> bool:
        """Whether it is one function of a number, whichever channel that is of."""
        return all(op.is_same_for_all_channels() for op in self.ops)


def region(network: FloatNetwork, result: str) -> Region | None:
    """The smallest region of elementwise operations that computes a value from a single other value.

    Parameters
    ----------
    network : FloatNetwork
    result : str
        The value that the region's last operation makes.

    Returns
    -------
    Region or None
        ``None`` if the operation is not elementwise, or its inputs do not derive from a single value.
    """
    by_name = {op.name: op for op in network}
    place = {op.name: index for index, op in enumerate(network.ops)}
    readers = network.readers()
    if result not in by_name or not by_name[result].is_elementwise:
        return None
    inside, frontier = {result}, set(by_name[result].inputs)
    while len(frontier) > 1:
        # The latest value first: another one of the frontier may be what it is computed from.
        latest = max(frontier, key=lambda name: place.get(name, -1))
        op = by_name.get(latest)
        if op is None or not op.is_elementwise:
            return None
        if any(reader.name not in inside for reader in readers[latest]):
            return None
        inside.add(latest)
        frontier = (frontier - {latest}) | set(op.inputs)
    (source,) = frontier
    return Region(source, tuple(op for op in network if op.name in inside))


def extended(network: FloatNetwork, found: Region, keep: tuple[type[Op], ...] = ()) -> Region:
    """The region with the elementwise operations of one input before it and behind it that belong to nothing else.

    Operations of the classes ``keep`` are left where they are.
    """
    readers = network.readers()
    by_name = {op.name: op for op in network}
    ops, source = list(found.ops), found.source
    while (before := by_name.get(source)) is not None and _joins(before, keep):
        if any(reader not in ops for reader in readers[source]):
            break
        ops.insert(0, before)
        (source,) = before.inputs
    while len(after := readers[ops[-1].name]) == 1 and _joins(after[0], keep):
        ops.append(after[0])
    return Region(source, tuple(ops))


def _joins(op: Op, keep: tuple[type[Op], ...]) -> bool:
    return op.is_elementwise and len(op.inputs) == 1 and op.is_same_for_all_channels() and not isinstance(op, keep)


def replace_region(network: FloatNetwork, found: Region, op: Op) -> None:
    """Put an operation in the place of a region. It gets the name, the shape and the readers of the region's last."""
    last = found.ops[-1]
    op.name, op.shape, op.inputs = last.name, last.shape, (found.source,)
    op.place = op.place or last.place
    inside = [id(entry) for entry in found.ops]
    network.ops = [op if entry is last else entry for entry in network.ops if entry is last or id(entry) not in inside]
