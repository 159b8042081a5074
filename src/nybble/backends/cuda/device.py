"""What the backend asks of a GPU: memory, copies, modules, launches, events, graphs. All above it is the same code."""

from __future__ import annotations

import ctypes
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

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


@dataclass(frozen=True)
class Borrowed:
    """An array on a device that belongs to somebody else.

    Attributes
    ----------
    address : int
    shape : tuple of int
    dtype : numpy.dtype
    owner : object
        What keeps it alive.
    """

    address: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    owner: object


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
    model : str
        Of the GPU, for choices that are stored.
    generation : int
        Which kernels it runs: 75, 80 (up to 8.9) or 90 (and later).
    """

    name: str
    model: str
    generation: int

    @abstractmethod
    def activate(self) -> None:
        """Called in a thread before it uses the device, which several may do in turns."""

    @abstractmethod
    def allocate(self, nbytes: int) -> int:
        """The address of so many bytes, aligned to 256."""

    @abstractmethod
    def release(self, address: int) -> None:
        """Give back what :meth:`allocate` gave."""

    @abstractmethod
    def write(self, address: int, data: Array) -> None:
        """Copy a contiguous array to the device, before what is launched later.

        The array may change once this returns. Work under way may not touch these bytes: the copy may run beside it.
        """

    @abstractmethod
    def read(self, address: int, out: Array) -> None:
        """Copy bytes from the device into a contiguous array, once all work before it is done."""

    @abstractmethod
    def copy(self, to: int, source: int, nbytes: int) -> None:
        """Copy within the device, in the order of launches."""

    @abstractmethod
    def launch(self, launch: Launch) -> None:
        """Run a kernel, behind all work so far; this may return before it has run."""

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

    def borrow(self, x: object) -> Borrowed:
        """An array of another library that lies on this device. Raises :class:`ValueError` if it does not."""
        raise ValueError(f"expected an array in the host's memory: {self.name} takes none on a GPU")

    def lend(self, address: int, shape: tuple[int, ...], strides: tuple[int, ...], dtype: np.dtype[Any]) -> object:
        """A copy of elements on the device as an array that other libraries can take; strides in elements."""
        raise ValueError(f"{self.name} gives no arrays on a GPU")

    @abstractmethod
    def close(self) -> None:
        """Give all memory and modules back."""
