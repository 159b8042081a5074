"""What the backend asks of a GPU: memory, copies, modules, launches, events, graphs. All above it is the same code."""

from __future__ import annotations

import ctypes
from abc import ABC, abstractmethod
from dataclasses import dataclass

from nybble.graph.types import Array


@dataclass(frozen=True)
class Launch:
    """One kernel over a grid of blocks.

    Attributes
    ----------
    kernel : str
        Its name in ``native/gpu/kernels/kernels.h``.
    grid : tuple of int
        Blocks in x and y.
    params : ctypes.Structure
        What the kernel takes, by value.
    """

    kernel: str
    grid: tuple[int, int]
    params: ctypes.Structure


class Captured:
    """Launches that were captured; :meth:`Device.replay` runs them again."""


class Event:
    """A moment in the order of a device's work."""


class Device(ABC):
    """One GPU. Work is done in the order in which it is asked for.

    Attributes
    ----------
    name : str
        What an engine's ``isa`` says.
    generation : int
        Which kernels it runs: 75, 80 (up to 8.9) or 90 (and later).
    """

    name: str
    generation: int

    @abstractmethod
    def allocate(self, nbytes: int) -> int:
        """The address of so many bytes, aligned to 256."""

    @abstractmethod
    def release(self, address: int) -> None:
        """Give back what :meth:`allocate` gave."""

    @abstractmethod
    def write(self, address: int, data: Array) -> None:
        """Copy a contiguous array to the device."""

    @abstractmethod
    def read(self, address: int, out: Array) -> None:
        """Copy bytes from the device into a contiguous array, once all work before it is done."""

    @abstractmethod
    def launch(self, launch: Launch) -> None:
        """Run a kernel."""

    @abstractmethod
    def capture(self, launches: list[Launch]) -> Captured:
        """Make launches one piece of work, without running it."""

    @abstractmethod
    def replay(self, captured: Captured) -> None:
        """Run what was captured."""

    @abstractmethod
    def event(self) -> Event:
        """Note when all work so far is done."""

    @abstractmethod
    def nanoseconds(self, first: Event, last: Event) -> int:
        """Time between two events, once both have passed."""

    @abstractmethod
    def close(self) -> None:
        """Give all memory and modules back."""
