"""A device that runs nothing and records launches and memory, with addresses replaced by numbers of blocks."""

from __future__ import annotations

import ctypes
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from nybble.backends.cuda.device import Captured, Device, Event, Launch
from nybble.graph.types import Array

#: The first address that is given out, and the gap between two allocations.
_FIRST, _GAP = 1 << 40, 1 << 12


class Pointer(NamedTuple):
    """An address in parameters: its offset in the parameters, the block it points to, and the offset in the block."""

    at: int
    block: int
    offset: int


@dataclass(frozen=True)
class Recorded:
    """A launch with all addresses set to zero."""

    kernel: str
    grid: tuple[int, int]
    params: bytes
    pointers: tuple[Pointer, ...]


@dataclass
class RecordingDevice(Device):
    """Allocations become numbered blocks.

    Attributes
    ----------
    blocks : list of int
        Bytes of each.
    contents : dict
        What was written to each block, by its number. Only whole blocks are written.
    """

    name: str = "recorded"
    model: str = "recorded"
    generation: int = 80
    blocks: list[int] = field(default_factory=list)
    contents: dict[int, Array] = field(default_factory=dict)
    _addresses: list[int] = field(default_factory=list)

    def activate(self) -> None:
        """Nothing to do."""

    def allocate(self, nbytes: int) -> int:
        """A number that stands for an address."""
        last = self._addresses[-1] + self.blocks[-1] if self.blocks else _FIRST
        self._addresses.append(-(-(last + _GAP) // 256) * 256)
        self.blocks.append(nbytes)
        return self._addresses[-1]

    def release(self, address: int) -> None:
        """Blocks keep their numbers."""

    def write(self, address: int, data: Array) -> None:
        """Kept in ``contents``."""
        self.contents[self._addresses.index(address)] = np.array(data.reshape(-1).view(np.uint8))

    def read(self, address: int, out: Array) -> None:
        """Not supported."""
        raise NotImplementedError

    def copy(self, to: int, source: int, nbytes: int) -> None:
        """Not supported."""
        raise NotImplementedError

    def launch(self, launch: Launch) -> None:
        """Not supported: use :meth:`recorded`."""
        raise NotImplementedError

    def capture(self, launches: list[Launch]) -> Captured:
        """Not supported."""
        raise NotImplementedError

    def replay(self, captured: Captured) -> None:
        """Not supported."""
        raise NotImplementedError

    def event(self) -> Event:
        """Not supported."""
        raise NotImplementedError

    def nanoseconds(self, first: Event, last: Event) -> int:
        """Not supported."""
        raise NotImplementedError

    def close(self) -> None:
        """Nothing to free."""

    def recorded(self, launch: Launch) -> Recorded:
        """A launch with its addresses as blocks and offsets."""
        params = bytearray(bytes(launch.params))
        pointers = []
        for at in _address_fields(type(launch.params)):
            address = int.from_bytes(params[at : at + 8], "little")
            if address:
                pointers.append(Pointer(at, *self.place(address)))
                params[at : at + 8] = bytes(8)
        return Recorded(launch.kernel, launch.grid, bytes(params), tuple(pointers))

    def place(self, address: int) -> tuple[int, int]:
        """The block of an address and the offset in it."""
        block = bisect_right(self._addresses, address) - 1
        offset = address - self._addresses[block]
        if block < 0 or offset > self.blocks[block]:
            raise ValueError(f"{address:#x} was not allocated")
        return block, offset


def _address_fields(structure: type[ctypes.Structure], base: int = 0) -> Iterator[int]:
    """Offsets of all 64-bit numbers in a structure: they are addresses."""
    for name, kind, *_ in structure._fields_:
        at = base + int(getattr(structure, name).offset)
        yield from _addresses_in(kind, at)


def _addresses_in(kind: Any, at: int) -> Iterator[int]:
    if kind is ctypes.c_uint64:
        yield at
    elif issubclass(kind, ctypes.Structure):
        yield from _address_fields(kind, at)
    elif issubclass(kind, ctypes.Array):
        for index in range(kind._length_):
            yield from _addresses_in(kind._type_, at + index * ctypes.sizeof(kind._type_))
