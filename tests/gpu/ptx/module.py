"""The interface of ``nybble._gpu_emulator``, implemented by interpreting PTX. The backend runs on it unchanged."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from nybble.backends.cuda.kernels import STEM_BYTES, STEMS, all_kernels
from nybble.graph.types import Array
from ptx.errors import PtxError
from ptx.machine import Counts, Program
from ptx.memory import GLOBAL, GlobalMemory
from ptx.text import read_kernels


def shared_bytes(name: str, arch: int) -> int:
    """Shared memory of a kernel, as ``native/gpu/kernels`` has it."""
    for kernel in all_kernels():
        if kernel.name == name:
            stages = 3 if arch >= 80 else 2
            return stages * (kernel.tile.rows + kernel.tile.columns) * kernel.tile.depth
    return STEM_BYTES if name in STEMS else 0


class PtxModule:
    """Kernels of one architecture, and their memory.

    Parameters
    ----------
    text : str
        PTX.
    arch : int
        75, 80, ...

    Attributes
    ----------
    kernels : dict
        By name.
    ran : set of str
        Names of kernels that ran.
    """

    def __init__(self, text: str, arch: int) -> None:
        self.kernels = read_kernels(text)
        self._arch = arch
        self._programs: dict[str, Program] = {}
        self._memory = GlobalMemory()
        self.ran: set[str] = set()

    def emulator(self) -> SimpleNamespace:
        """A replacement for the emulator's module, with empty memory."""
        self._memory = GlobalMemory()
        return SimpleNamespace(
            allocate=self._memory.allocate,
            release=self._memory.release,
            write=self._write,
            read=self._read,
            launch=self._launch,
        )

    def _write(self, address: int, data: Array) -> None:
        offset = self._offset(address, data.nbytes)
        self._memory.bytes.data[offset : offset + data.nbytes] = data

    def _read(self, address: int, out: Array) -> None:
        offset = self._offset(address, out.nbytes)
        out[:] = self._memory.bytes.data[offset : offset + out.nbytes]

    def _offset(self, address: int, nbytes: int) -> int:
        if nbytes:
            self._memory.offsets(np.array([address, address + nbytes - 1], np.uint64), 1)
        return address - GLOBAL

    def _launch(self, generation: int, name: str, x: int, y: int, params: bytes, seed: int) -> None:
        if name not in self.kernels:
            raise PtxError(f"no kernel {name}")
        if name not in self._programs:
            self._programs[name] = Program(self.kernels[name], shared_bytes(name, self._arch))
        self._run(self._programs[name], (x, y), params)
        self.ran.add(name)

    def _run(self, program: Program, grid: tuple[int, int], params: bytes) -> None:
        program.run(grid, params, self._memory)


class CountingModule(PtxModule):
    """Runs only some blocks of each launch and extrapolates the counts. The network's results are wrong.

    Attributes
    ----------
    launches : list
        Kernel and counts of each launch, scaled to all of its blocks.
    """

    def __init__(self, text: str, arch: int) -> None:
        super().__init__(text, arch)
        self.launches: list[tuple[str, Counts]] = []

    def outside(self, name: str) -> int:
        """Instructions of a kernel's text outside of its loop."""
        return self.kernels[name].written - self._programs[name].inside

    def _run(self, program: Program, grid: tuple[int, int], params: bytes) -> None:
        found = program.run(grid, params, self._memory, all_blocks=False)
        scale = grid[0] * grid[1] / found.blocks
        sums = (round(one * scale) for one in (found.rounds, found.outside, found.wavefronts))
        counts = Counts(*sums, grid[0] * grid[1])
        self.launches.append((program.kernel.name, counts))
