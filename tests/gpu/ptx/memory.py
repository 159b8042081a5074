"""Global memory, shared memory of several blocks, parameters: vectors of addresses, each checked."""

from __future__ import annotations

import numpy as np

from nybble.graph.types import Array
from ptx.errors import PtxError

#: Where each begins. No two meet, so that an address of one is out of bounds in another.
GLOBAL, PARAM, SHARED = 1 << 32, 1 << 24, 1 << 10
_GUARD = 256


class Bytes:
    """Bytes that are read and written as rows of elements."""

    def __init__(self, data: Array) -> None:
        self.data = data
        self._views: dict[tuple[type, int], Array] = {}

    def rows(self, dtype: type[np.generic], count: int) -> Array:
        """All of it as (rows, count)."""
        if (dtype, count) not in self._views:
            self._views[dtype, count] = self.data.view(dtype).reshape(-1, count)
        return self._views[dtype, count]

    def read(self, offsets: Array, dtype: type[np.generic], count: int) -> Array:
        """(lanes, count) elements."""
        return self.rows(dtype, count).take(offsets // (np.dtype(dtype).itemsize * count), axis=0)

    def write(self, offsets: Array, values: Array) -> None:
        """Write (lanes, count) elements."""
        count = values.shape[1]
        self.rows(values.dtype.type, count)[offsets // (values.dtype.itemsize * count)] = values


def aligned(offsets: Array, size: int, where: str) -> None:
    """Raise where an access is not aligned to its size."""
    if np.any(offsets & (size - 1)):
        raise PtxError(f"{where}: an access of {size} bytes is not aligned")


class GlobalMemory:
    """Allocations with gaps between them, initialised with random bytes."""

    def __init__(self, capacity: int = 1 << 30) -> None:
        self.bytes = Bytes(np.zeros(capacity, np.uint8))
        self._next = _GUARD
        self._blocks: dict[int, int] = {}
        self._starts = self._ends = np.empty(0, np.int64)

    def allocate(self, nbytes: int) -> int:
        """Aligned to 256."""
        start = self._next
        self._next = -(-(start + nbytes + _GUARD) // 256) * 256
        if self._next > len(self.bytes.data):
            raise PtxError(f"the interpreter has {len(self.bytes.data)} bytes of global memory")
        self.bytes.data[start : start + nbytes] = 0xA5
        self._blocks[start] = start + nbytes
        self._sort()
        return GLOBAL + start

    def release(self, address: int) -> None:
        """Every later access is an error."""
        del self._blocks[address - GLOBAL]
        self._sort()

    def _sort(self) -> None:
        self._starts = np.array(sorted(self._blocks), np.int64)
        self._ends = np.array([self._blocks[start] for start in self._starts], np.int64)

    def offsets(self, addresses: Array, size: int) -> Array:
        """Places of accesses of a size. Raises an error outside of every allocation."""
        offsets = addresses.view(np.int64) - GLOBAL
        aligned(offsets, size, "global memory")
        if len(offsets) == 0:
            return offsets
        # Most often one allocation has all of them.
        lowest = np.array([offsets.min()])
        if self._inside(lowest, offsets.max() + size).all() or self._inside(offsets, offsets + size).all():
            return offsets
        raise PtxError("global memory: an access outside every allocation")

    def _inside(self, firsts: Array, ends: Array) -> Array:
        block = np.searchsorted(self._starts, firsts, side="right") - 1
        found: Array = (block >= 0) & (ends <= np.append(self._ends, 0)[block])
        return found


class SharedMemory:
    """The shared memory of several blocks, one after the other. Initialised with random bytes."""

    def __init__(self, blocks: int, threads: int, size: int) -> None:
        self._size = size
        self._pitch = -(-size // 16) * 16
        garbage = np.random.default_rng(0).integers(0, 256, blocks * self._pitch, np.uint8)
        self.bytes = Bytes(garbage)
        self._first = np.repeat(np.arange(blocks) * self._pitch, threads)

    def offsets(self, addresses: Array, lanes: Array | slice, size: int) -> Array:
        """Places of the lanes' accesses. Raises an error outside of the block's memory."""
        offsets = addresses.astype(np.int64) - SHARED
        aligned(offsets, size, "shared memory")
        if len(offsets) and (offsets.min() < 0 or offsets.max() + size > self._size):
            raise PtxError("shared memory: an access outside the block's memory")
        return offsets + self._first[lanes]
