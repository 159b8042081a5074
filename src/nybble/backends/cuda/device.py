"""The interface to a GPU (memory, copies, launches, events, graphs), which all kinds of device implement."""

from __future__ import annotations

import ctypes
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

from nybble.graph.types import Array

#: Generations of kernels, each by the least compute capability that it is for: 7.5, 8.0 to 8.9, and 9.0 and later.
GENERATIONS = (75, 80, 90)


def generation_of(arch: int) -> int:
    """The generation of kernels for an architecture of at least 75."""
    return max(least for least in GENERATIONS if least <= arch)


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
        Its parameters, passed by value.
    """

    kernel: str
    grid: tuple[int, int]
    params: ctypes.Structure


@dataclass(frozen=True)
class Borrowed:
    """An array on a device that another library owns.

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
    """Recorded launches, which :meth:`Device.replay` runs."""


class Event:
    """A point in the order of a device's work."""


class Device(ABC):
    """One GPU. Operations take effect in the order of the calls.

    Attributes
    ----------
    name : str
        The ``isa`` of an engine on this device.
    model : str
        Name of the GPU.
    generation : int
        Which kernels it runs: one of :data:`GENERATIONS`.
    """

    name: str
    model: str
    generation: int

    @abstractmethod
    def activate(self) -> None:
        """Must be called by each thread before it uses the device. One thread at a time may use it."""

    @abstractmethod
    def allocate(self, nbytes: int) -> int:
        """Allocate memory. Returns its address, a multiple of 256."""

    @abstractmethod
    def release(self, address: int) -> None:
        """Free memory from :meth:`allocate`."""

    @abstractmethod
    def write(self, address: int, data: Array) -> None:
        """Copy a contiguous array to the device, before any kernel that is launched later.

        The array may change once this returns. Kernels that are still running must not use these bytes, since the copy
        may run concurrently.
        """

    @abstractmethod
    def read(self, address: int, out: Array) -> None:
        """Copy bytes from the device into a contiguous array, after all earlier work."""

    @abstractmethod
    def copy(self, to: int, source: int, nbytes: int) -> None:
        """Copy within the device, in order with the launches."""

    @abstractmethod
    def launch(self, launch: Launch) -> None:
        """Run a kernel after all earlier work. This may return before the kernel has run."""

    @abstractmethod
    def capture(self, launches: list[Launch]) -> Captured:
        """Record launches for :meth:`replay`, without running them."""

    @abstractmethod
    def replay(self, captured: Captured) -> None:
        """Run what was captured."""

    @abstractmethod
    def event(self) -> Event:
        """Record an event after all earlier work."""

    @abstractmethod
    def nanoseconds(self, first: Event, last: Event) -> int:
        """Time between two events. Waits for both."""

    def borrow(self, x: object) -> Borrowed:
        """An array of another library on this device. Raises :class:`ValueError` if it lies elsewhere."""
        raise ValueError(f"expected an array in host memory; {self.name} does not take arrays on a GPU")

    def lend(self, address: int, shape: tuple[int, ...], strides: tuple[int, ...], dtype: np.dtype[Any]) -> object:
        """A copy of elements on the device, as an array that other libraries can use; strides in elements."""
        raise ValueError(f"{self.name} does not return arrays on a GPU")

    @abstractmethod
    def close(self) -> None:
        """Free all memory and modules."""
