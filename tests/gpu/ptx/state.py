"""Registers of all threads of some blocks, and which of them run."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nybble.graph.types import Array
from ptx.memory import GlobalMemory, SharedMemory

#: NumPy's types of PTX's.
TYPES: dict[str, type[np.generic]] = {
    "u8": np.uint8, "s8": np.int8, "b32": np.uint32, "u32": np.uint32, "s32": np.int32, "f32": np.float32,
    "b64": np.uint64, "u64": np.uint64, "s64": np.int64, "pred": np.bool_,
}  # fmt: skip


class State:
    """The state that instructions read and change.

    Parameters
    ----------
    registers : Mapping
        ``pred``, ``b32`` or ``b64`` by name.
    grid_x : int
        Blocks in x.
    blocks : range
        Those that run together, numbered row by row.
    threads : int
        Of a block.
    memory, shared, params
        What its addresses reach.

    Attributes
    ----------
    copies : list
        Groups of asynchronous copies that are under way, the oldest first: where, and what.
    running : True or bool (lanes,)
        What NumPy takes as ``where``.
    lanes : slice or int64 array
        The same lanes, as an index.
    """

    def __init__(
        self,
        registers: Mapping[str, str],
        grid_x: int,
        blocks: range,
        threads: int,
        memory: GlobalMemory,
        shared: SharedMemory,
        params: Array,
    ) -> None:
        self.count = len(blocks) * threads
        self.memory, self.shared, self.params = memory, shared, params
        self.registers = registers
        self._views: dict[tuple[str, str], Array] = {}
        block = np.repeat(np.arange(blocks.start, blocks.stop, dtype=np.uint32), threads)
        self.special = {
            "%tid.x": np.tile(np.arange(threads, dtype=np.uint32), len(blocks)),
            "%ntid.x": np.full(self.count, threads, np.uint32),
            "%ctaid.x": block % np.uint32(grid_x),
            "%ctaid.y": block // np.uint32(grid_x),
        }
        self.copies: list[list[tuple[Array, Array]]] = [[]]
        self.running: bool | Array = True
        self.lanes: slice | Array = slice(None)

    def view(self, register: str, kind: str) -> Array:
        """A register of all lanes as values of a type of the same width."""
        found = self._views.get((register, kind))
        if found is None:
            found = self._views[register, kind] = self._row(register).view(TYPES[kind])
        return found

    def _row(self, register: str) -> Array:
        """Registers have random initial values, as on a GPU."""
        kind = self.registers[register]
        found = self._views.get((register, kind))
        if found is None:
            garbage = True if kind == "pred" else 0xA5A5A5A5
            found = self._views[register, kind] = np.full(self.count, garbage, TYPES[kind])
        return found

    def whole(self, register: str, kind: str) -> Array:
        """A register as integers of its own width, signed as a narrower or equally wide type is."""
        width = self.registers[register][1:]
        return self.view(register, ("s" if kind[0] == "s" else "u") + width if kind[0] in "us" else kind)

    def select(self, mask: Array | None) -> None:
        """Set the active lanes; ``None`` for all."""
        self.running = True if mask is None else mask
        self.lanes = slice(None) if mask is None else np.flatnonzero(mask)

    def store(self, target: Array, values: Array) -> None:
        """Write values to the active lanes of a register, one value per active lane."""
        target[self.lanes] = values
