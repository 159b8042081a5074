"""Engines of one network for inputs of several sizes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar


class Closing(Protocol):
    """Something that holds threads and memory until it is closed."""

    def close(self) -> None:
        """Release them."""
        ...


Made = TypeVar("Made", bound=Closing)

#: Number of engines of other sizes that are kept: the most recently used ones.
KEPT = 4


class Sizes(Generic[Made]):
    """Makes engines of other sizes, and keeps the :data:`KEPT` most recently used ones.

    Packed weights are equal for all sizes that run the same kernels, and the process stores equal weights once. An
    engine that is no longer kept continues to work for whoever holds it.

    Parameters
    ----------
    make : callable
        An engine for images of so many rows and columns.
    """

    def __init__(self, make: Callable[[int, int], Made]) -> None:
        self._make = make
        self._kept: OrderedDict[tuple[int, int], Made] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, rows: int, columns: int) -> Made:
        """The engine for a size. Raises as :meth:`nybble.Engine.reshape`."""
        size = (rows, columns)
        with self._lock:
            if size not in self._kept:
                self._kept[size] = self._make(rows, columns)
                while len(self._kept) > KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(size)
            return self._kept[size]

    def __len__(self) -> int:
        return len(self._kept)

    def clear(self) -> None:
        """Close all that are kept."""
        with self._lock:
            for engine in self._kept.values():
                engine.close()
            self._kept.clear()
