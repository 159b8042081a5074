"""The emulated GPU: the source of the kernels, compiled for the host. It checks every access and is slow."""

from __future__ import annotations

import time
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from nybble.backends.cuda.device import Captured, Device, Event, Launch
from nybble.backends.errors import EngineError
from nybble.graph.types import Array


@dataclass
class _Recorded(Captured):
    launches: list[Launch]


@dataclass
class _Moment(Event):
    nanoseconds: int


class EmulatedDevice(Device):
    """One GPU that runs on the CPU.

    Parameters
    ----------
    generation : int
        One of :data:`nybble.backends.cuda.device.GENERATIONS`.
    seed : int
        Seed of the order in which blocks, warps and lanes run.
    """

    def __init__(self, generation: int, seed: int = 0) -> None:
        self._native = emulator()
        self.generation = generation
        self.model = "emulated"
        self.name = f"sm_{generation} ({self.model})"
        self._random = np.random.default_rng(seed)
        self._blocks: set[int] = set()

    def activate(self) -> None:
        """Nothing to do."""

    def allocate(self, nbytes: int) -> int:
        """Memory that counts as uninitialised."""
        address = int(self._native.allocate(nbytes))
        self._blocks.add(address)
        return address

    def release(self, address: int) -> None:
        """Every later access to it is an error."""
        self._native.release(address)
        self._blocks.remove(address)

    def write(self, address: int, data: Array) -> None:
        """Copies at once."""
        self._native.write(address, data.reshape(-1).view(np.uint8))

    def read(self, address: int, out: Array) -> None:
        """Copies at once."""
        self._native.read(address, out.reshape(-1).view(np.uint8))

    def copy(self, to: int, source: int, nbytes: int) -> None:
        """Copies at once."""
        data = np.empty(nbytes, np.uint8)
        self.read(source, data)
        self.write(to, data)

    def launch(self, launch: Launch) -> None:
        """Runs at once. Raises ``EmulatorError`` for faults of the kernel."""
        seed = int(self._random.integers(1 << 63))
        self._native.launch(self.generation, launch.kernel, *launch.grid, bytes(launch.params), seed)

    def capture(self, launches: list[Launch]) -> Captured:
        """Keeps a list of the launches."""
        return _Recorded(launches)

    def replay(self, captured: Captured) -> None:
        """Runs the launches one after the other."""
        assert isinstance(captured, _Recorded)  # noqa: S101
        for launch in captured.launches:
            self.launch(launch)

    def event(self) -> Event:
        """The time of the host."""
        return _Moment(time.perf_counter_ns())

    def nanoseconds(self, first: Event, last: Event) -> int:
        """The host's time, which is not a measurement of a GPU."""
        assert isinstance(first, _Moment) and isinstance(last, _Moment)  # noqa: S101
        return last.nanoseconds - first.nanoseconds

    def close(self) -> None:
        """Free all remaining memory."""
        for address in list(self._blocks):
            self.release(address)


def emulator() -> ModuleType:
    """The native module. Raises :class:`EngineError` where this build has none, as published wheels do."""
    try:
        from nybble import _gpu_emulator
    except ImportError:
        raise EngineError(
            "device='cuda-emulated': this build has no emulated GPU, and neither have published wheels; build nybble "
            "from source (pip install .)"
        ) from None
    return _gpu_emulator
