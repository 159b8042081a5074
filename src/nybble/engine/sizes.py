"""Engines of one network for inputs of several sizes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

from nybble.backends import Options
from nybble.graph import Graph
from nybble.graph.resized import resized

if TYPE_CHECKING:
    from nybble.engine.engine import Engine

#: Engines of other sizes that are kept: those used last.
KEPT = 4


class Sizes:
    """Makes engines of other sizes, and keeps the :data:`KEPT` that were used last.

    Packed weights are equal for all sizes that run the same kernels, and the process stores equal weights once. An
    engine that is no longer kept works on for as long as it is held.

    Parameters
    ----------
    graph : Graph
        At its own size.
    options : Options
        Those of its engine; choices of kernels are for one size and are not taken over.
    device : str
    """

    def __init__(self, graph: Graph, options: Options, device: str) -> None:
        self._graph, self._options, self._device = graph, options, device
        self._kept: OrderedDict[tuple[int, int], Engine] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, rows: int, columns: int) -> Engine:
        """The engine for a size. Raises as :meth:`nybble.Engine.reshape`."""
        from nybble.engine.engine import Engine

        size = (rows, columns)
        with self._lock:
            if size not in self._kept:
                options = self._options
                engine = Engine(
                    resized(self._graph, rows, columns),
                    options.threads,
                    options.isa,
                    tuned=options.tuned,
                    device=self._device,
                )
                engine.share_sizes(self)
                self._kept[size] = engine
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
