"""Tuning: a kernel for each convolution and an order for channels, found by measuring on this machine.

The search varies one part of the kernels at a time (coordinate descent). In a round the first candidates of all layers
run in one engine, the second candidates in another, and so on. The engines run the same images, interleaved. Native
timers measure each layer, and its ratio to the layer's current kernel, image by image, decides. So a round costs a few
runs of the whole network for any number of layers, and a change of the machine's speed affects all candidates alike.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple, TypeVar

import numpy as np

from nybble.backends.base import Options, checked_integers
from nybble.backends.cpu.activity import Activity, orders_from_activity
from nybble.backends.cpu.choices import (
    TILE_PIXELS,
    VISIT_BYTES,
    Choices,
    block_sizes,
    convolutions,
    list_blocks,
    methods,
)
from nybble.backends.cpu.executable import CpuExecutable
from nybble.backends.cpu.kernel import Kernel, choose_kernel
from nybble.backends.cpu.lowered import lowered
from nybble.backends.cpu.order import Order, channel_orders
from nybble.backends.cpu.plan import lists_of
from nybble.backends.cpu.rows import LIST_GROUPS, rows
from nybble.graph import Graph
from nybble.graph.types import Array
from nybble.lower import Step, fuse
from nybble.progress import Progress, silent
from nybble.turns import rounds_of, seconds_of, take_turns

T = TypeVar("T")

#: The order in which parts of a kernel are varied; block sizes come again, for the tile that was found in between.
ROUNDS = ("method", "block_outputs", "tile_pixels", "visit_bytes", "list_block", "block_outputs")
#: A candidate must be faster than the current kernel by this share, since smaller differences of medians of few runs
#: are noise, and it must be faster in this share of the runs.
_MARGIN = 0.015
_MOST_OF_RUNS = 0.75
#: Whole runs of the same work on a busy machine differ by this share in the median.
_NOISE = 0.02
_FEWEST_RUNS = 5
#: Runs of the last comparison, which decides what is stored.
_FEWEST_LAST_RUNS = 15
_MOST_RUNS = 100
#: Most inputs that activity is counted on, and inputs that are held out to check the orders.
_MOST_COUNTED = 256


class Against(NamedTuple):
    """A speed-up: the median over paired runs, and its quartiles."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Tuning:
    """The result of tuning.

    Attributes
    ----------
    choices : Choices
        The fastest of: the defaults (empty), the new orders alone, orders and kernels. If the defaults are not faster
        than the orders by more than chance, the orders are chosen. Choices that were stored before stay, unless the new
        ones are faster by more than the spread: in three quarters of the runs.
    defaults : dict
        The default kernel of each layer, by its step's output.
    speedups : dict
        Median over interleaved runs of the default's time by that of ``orders`` and ``kernels`` (with the orders).
    chosen : str
        ``defaults``, ``orders``, ``kernels`` or ``stored``.
    pair_shares : tuple of float or None
        Share of channel pairs that are not zero, weighted by MACs, on inputs held out: before, and with orders matched
        on the others. ``None`` where the orders were not tuned.
    runs : int
        Runs of each contestant in the last comparison.
    against_stored : Against or None
        The new choices compared with those stored before, if they differ.
    milliseconds : dict
        Median of a run of each contestant.
    """

    choices: Choices
    defaults: dict[str, Kernel]
    speedups: dict[str, float]
    chosen: str
    pair_shares: tuple[float, float] | None
    runs: int
    against_stored: Against | None = None
    milliseconds: dict[str, float] = field(default_factory=dict)


def tune(
    graph: Graph,
    inputs: Array,
    *,
    threads: int | None = None,
    isa: str | None = None,
    seconds: float = 60.0,
    orders: bool = True,
    stored: Choices | None = None,
    progress: Progress = silent,
) -> Tuning:
    """Find choices for a network on this machine.

    Parameters
    ----------
    graph : Graph
    inputs : array
        (N, C, H, W) integers as for :meth:`Engine.run_integer`. They should be real inputs, since speed depends on
        zeros.
    threads, isa
        As for :class:`Engine`. One image runs at a time, on all threads.
    seconds : float
        Approximate time to measure. A few runs of each candidate are made in any case.
    orders : bool
        Match channel orders on the inputs; needs at least two. Not useful for inputs that are not real.
    stored : Choices, optional
        The choices in use so far. They stay unless the new ones are faster by more than the spread.
    progress : Progress
        Called with the part that each round varies, and the number of rounds.

    Raises
    ------
    ValueError
        If there is no input or ``seconds`` is not positive, and as :class:`Engine`.
    """
    if len(inputs) < 1:
        raise ValueError("tuning needs at least one input")
    if not seconds > 0:
        raise ValueError(f"seconds must be positive, got {seconds}")
    deadline = time.perf_counter() + seconds
    inputs = checked_integers(graph, inputs)
    graph = lowered(graph)
    total = len(ROUNDS) + 2
    progress("tuning channel orders", 0, total)
    plain = CpuExecutable(graph, Options(threads, isa, tuned=False))
    search = _Search(graph, inputs, plain.threads, plain.isa, plain.plan.kernels)
    shares = search.match_orders(plain, deadline) if orders and len(inputs) > 1 else None
    plain.close()
    for done, part in enumerate(ROUNDS, 1):
        progress(f"tuning {part}", done, total)
        now = time.perf_counter()
        search.round(part, now + (deadline - now) / (total - done))
    progress("tuning comparison", total - 1, total)
    result = search.conclude(deadline, shares, stored)
    progress("tuning done", total, total)
    return result


class _Search:
    """The kernels and orders that are best so far."""

    def __init__(self, graph: Graph, inputs: Array, threads: int, isa: str, defaults: Mapping[str, Kernel]) -> None:
        self.graph = graph
        self.inputs = inputs
        self.threads = threads
        self.isa = isa
        self.layers = convolutions(graph)
        self.sources = {name: step.source for name, step in self.layers.items()}
        self.defaults = dict(defaults)
        self.kernels = dict(self.defaults)
        self.orders: dict[str, Order] = {}

    def match_orders(self, engine: CpuExecutable, deadline: float) -> tuple[float, float] | None:
        """Count on two thirds of the inputs, check on the rest, match on all, in at most a quarter of the time."""
        steps = fuse(self.graph)
        before = channel_orders(steps)
        fitted, held_out, everything = (Activity(steps) for _ in range(3))
        if not fitted.classes:
            return None
        begun = time.perf_counter()
        for index in range(min(len(self.inputs), _MOST_COUNTED)):
            values = engine.tap(self.inputs[index : index + 1])
            everything.count(values)
            (held_out if index % 3 == 1 else fitted).count(values)
            if index and time.perf_counter() - begun > (deadline - begun) / 4:
                break
        better = orders_from_activity(fitted, held_out, before)
        found = everything.orders()
        self.orders = {name: found[name] for name in better}
        return held_out.pair_share(before), held_out.pair_share({**before, **better})

    def round(self, part: str, until: float) -> None:
        """Try the candidates that differ in one part of the kernel, and keep what is faster."""
        options = {name: self._options(name, step, part) for name, step in self.layers.items()}
        count = max(map(len, options.values()), default=1)
        if count == 1:
            return
        plans = [
            {name: found[i] if i < len(found) else found[0] for name, found in options.items()} for i in range(count)
        ]
        engines = [self._engine(Choices(plan, self.orders)) for plan in plans]
        times = self._measure(engines, until)
        for group in self._groups(part):
            costs = [_cost(engine, group, rows, self.sources) for engine, rows in zip(engines, times, strict=True)]
            ratios = np.array([cost / costs[0] for cost in costs[: len(options[group[0]])]])
            medians = np.median(ratios, axis=1)
            # It must be faster on most images too: among many candidates some have a better median by chance.
            is_faster = (medians < 1 - _MARGIN) & (np.quantile(ratios, _MOST_OF_RUNS, axis=1) < 1)
            best = int(np.argmin(np.where(is_faster, medians, np.inf)))
            if is_faster[best]:
                for name in group:
                    self.kernels[name] = options[name][best]
        for engine in engines:
            engine.close()

    def conclude(self, deadline: float, shares: tuple[float, float] | None, stored: Choices | None = None) -> Tuning:
        """Compare the whole network with defaults, with orders, with orders and kernels, and with stored choices."""
        contestants = {"defaults": Choices(), "orders": Choices({}, self.orders)}
        if not self.orders:
            del contestants["orders"]
        if self.kernels != self.defaults:
            contestants["kernels"] = Choices(self.kernels, self.orders)
        if stored is not None:
            contestants["stored"] = stored
        engines = [self._engine(choices) for choices in contestants.values()]
        times = self._in_turns([partial(seconds_of, engine.run) for engine in engines], deadline, _FEWEST_LAST_RUNS)
        for engine in engines:
            engine.close()
        by_name = dict(zip(contestants, times, strict=True))
        speedups = {
            name: statistics.median(a / b for a, b in zip(by_name["defaults"], column, strict=True))
            for name, column in by_name.items()
        }
        chosen = max((name for name in speedups if name != "stored"), key=lambda name: speedups[name])
        if chosen == "defaults" and speedups.get("orders", 0) > 1 - _NOISE:
            # Fewer non-zero pairs, as checked on held-out inputs, are less work for the same kernels.
            chosen = "orders"
        against = None
        if stored is not None:
            against = _against(by_name["stored"], by_name[chosen])
            if against.low <= 1:
                chosen = "stored"
        return Tuning(
            choices=contestants[chosen],
            defaults=self.defaults,
            speedups={name: value for name, value in speedups.items() if name != "defaults"},
            chosen=chosen,
            pair_shares=shares,
            runs=len(times[0]),
            against_stored=against,
            milliseconds={name: statistics.median(column) * 1e3 for name, column in by_name.items()},
        )

    def _options(self, name: str, step: Step, part: str) -> list[Kernel]:
        """The current kernel, then those that differ from it in one part."""
        now = self.kernels[name]
        sparse = now.method in LIST_GROUPS
        match part:
            case "method":
                usable = methods(step, self.isa)
                usable = usable if usable == ["direct"] else [method for method in usable if method != "direct"]
                found = [self._typical(step, method) for method in usable if method != now.method]
            case "block_outputs":
                sizes = block_sizes(step, self.isa, now.method) if now.method != "direct" else []
                found = [replace(now, block_outputs=size) for size in sizes]
            case "tile_pixels":
                found = [replace(now, tile_pixels=pixels) for pixels in TILE_PIXELS]
            case "visit_bytes":
                found = [replace(now, visit_bytes=size) for size in VISIT_BYTES] if sparse else []
            case _:
                blocks = list_blocks(step, self.isa, now.method)
                found = [replace(now, list_block=block) for block in blocks]
        return [now, *(kernel for kernel in found if kernel != now)]

    def _typical(self, step: Step, method: str) -> Kernel:
        """A kernel of a method with sizes that suit most layers."""
        default = choose_kernel(step, self.isa)
        if default.method == method:
            return default
        row = rows(self.isa)[method]
        sizes = block_sizes(step, self.isa, method)
        outputs = max(size for size in sizes if size <= max(row.usual_outputs, sizes[0]))
        blocks = list_blocks(step, self.isa, method)
        return Kernel(method, outputs, row.usual_pixels, list_block=blocks[-1] if blocks else 0)

    def _groups(self, part: str) -> list[list[str]]:
        """Layers whose candidates are tried together: those that share lists, where the lists change."""
        if part != "list_block":
            return [[name] for name in self.layers]
        shared: dict[tuple[str, str], list[str]] = {}
        for name, kernel in self.kernels.items():
            if kernel.method in LIST_GROUPS:
                shared.setdefault((self.sources[name], kernel.method), []).append(name)
        # All of them must have the same candidates in the same order.
        return [group for group in shared.values() if len({len(self._blocks(name)) for name in group}) == 1]

    def _blocks(self, name: str) -> list[int]:
        return list_blocks(self.layers[name], self.isa, self.kernels[name].method)

    def _engine(self, choices: Choices) -> CpuExecutable:
        return CpuExecutable(self.graph, Options(self.threads, self.isa, choices=choices))

    def _measure(self, engines: Sequence[CpuExecutable], until: float) -> list[list[dict[str, int]]]:
        """Step times of each engine, run by run; the same image for all in each run."""
        times = self._in_turns([engine.step_times for engine in engines], until, _FEWEST_RUNS + 1)
        # The first run of each is its warm-up.
        return [rows[1:] for rows in times]

    def _in_turns(self, contestants: Sequence[Callable[[Array], T]], until: float, fewest: int) -> list[list[T]]:
        """What each contestant measures, run by run; the same image for all in each run, each run another first."""
        runs = rounds_of(until - time.perf_counter(), fewest, _MOST_RUNS)
        return take_turns(contestants, (self.inputs[run % len(self.inputs)][None] for run in runs), rotate=True)


def _cost(
    engine: CpuExecutable, group: Sequence[str], rows: Sequence[dict[str, int]], sources: dict[str, str]
) -> Array:
    """Nanoseconds of a group's layers in each run, including their share of the lists that they read."""
    kernels = engine.plan.kernels
    total = np.zeros(len(rows))
    for name in group:
        total += [row[name] for row in rows]
        method = kernels[name].method
        if method in LIST_GROUPS:
            readers = sum(sources[other] == sources[name] and kernels[other].method == method for other in kernels)
            lists = lists_of(sources[name], LIST_GROUPS[method])
            total += np.array([row[lists] for row in rows]) / readers
    result: Array = np.maximum(total, 1)
    return result


def _against(before: Sequence[float], now: Sequence[float]) -> Against:
    """The speed-up of paired runs; its lower quartile is at most 1 if a quarter of the runs was not faster."""
    ratios = [a / b for a, b in zip(before, now, strict=True)]
    low, median, high = np.quantile(ratios, [1 - _MOST_OF_RUNS, 0.5, _MOST_OF_RUNS]).tolist()
    return Against(median, low, high)
