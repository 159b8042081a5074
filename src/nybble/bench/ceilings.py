"""Upper bounds of this machine: rates of instruction mixes and of memory, each thread on its own data."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from nybble import _native
from nybble.bench.isas import has_dot_products
from nybble.progress import Progress, counted, silent
from nybble.turns import take_turns

#: Windows of each measurement and their length in seconds.
WINDOWS = 5
WINDOW = 0.04


#: The instructions with which a kernel's method multiplies and adds, which determine its ceiling. ``direct`` has none.
_SUMS_OF_16_BITS = dict.fromkeys(("sparse", "winograd", "pair", "chained", "grouped"), "vpmaddubsw+vpaddw")
LOOPS = {
    **_SUMS_OF_16_BITS,
    **dict.fromkeys(("quad", "sparse_quad", "winograd_quad"), "vpmaddubsw+vpmaddwd+vpaddd"),
    "wide": "vpmaddwd+vpaddd",
}
#: And where the instruction set has dot products.
LOOPS_WITH_DOTS = {
    **LOOPS,
    **dict.fromkeys(("quad", "sparse_quad", "winograd_quad", "depthwise"), "vpdpbusd"),
    **dict.fromkeys(("inner", "winograd_inner"), "2 vpaddb+vpdpbusd"),
}


def loop_of(method: str | None, isa: str) -> str | None:
    """The instructions whose ceiling applies to a kernel's method; ``None`` if none was measured."""
    return (LOOPS_WITH_DOTS if has_dot_products(isa) else LOOPS).get(method or "")


@dataclass
class Ceiling:
    """The rate of one loop on some threads.

    Attributes
    ----------
    name : str
        Instructions and where their operands lie, or the memory that is read.
    isa : str
    threads : int
    unit : str
        ``GMAC/s`` or ``GB/s`` (10**9 bytes).
    windows : list of float
        Rate of all threads together in each window.
    """

    name: str
    isa: str
    threads: int
    unit: str
    windows: list[float] = field(default_factory=list)

    @property
    def best(self) -> float:
        """The ceiling, the largest window: disturbances can only lower a rate."""
        return max(self.windows)

    @property
    def median(self) -> float:
        """The median over the windows."""
        return statistics.median(self.windows)


def measure_ceilings(
    threads: Sequence[int] = (1, 2),
    windows: int = WINDOWS,
    seconds: float = WINDOW,
    progress: Progress = silent,
) -> list[Ceiling]:
    """Measure every loop that this machine can run, on each number of threads in turn.

    Returns an empty list on processors for which there are no loops.
    """
    found = [
        Ceiling(name, isa, count, "GB/s" if reads else "GMAC/s")
        for name, isa, reads in _native.ceilings()
        for count in threads
    ]

    def rate(ceiling: Ceiling, _: int) -> float:
        return _native.measure_ceiling(ceiling.name, ceiling.isa, ceiling.threads, seconds) / 1e9

    rates = take_turns([partial(rate, one) for one in found], counted(range(windows), "ceilings", windows, progress))
    for ceiling, measured in zip(found, rates, strict=True):
        ceiling.windows.extend(measured)
    return found
