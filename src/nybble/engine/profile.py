"""Where the time goes: each native step's time, work and share of zeros."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nybble.engine.engine import Engine
from nybble.graph.types import Array
from nybble.lower import Step

if TYPE_CHECKING:
    from nybble.backends.cpu.kernel import Kernel
    from nybble.backends.cpu.order import Order
    from nybble.backends.cpu.plan import Plan


@dataclass(frozen=True)
class LayerProfile:
    """One native step: a convolution with its epilogue, a pool; or the part of one that builds the lists of its value.

    Attributes
    ----------
    name : str
        The value it writes, as in :meth:`Engine.step_times`.
    head : str
        The layer that it starts with; for lists, the value that they index.
    kind : str
        ``conv``, ``pool``, ``scale``, ``point`` or ``lists``.
    kernel : Kernel, str or None
        Of a convolution or linear layer; on a GPU its name, of every step.
    seconds : float
        Time of one image, median over the runs.
    macs : int
        Multiply-accumulates of one image, those with zeros included; 0 but for a convolution.
    bytes : int
        Least number of bytes that a convolution reads and writes for one image: input, weights and output, one byte per
        element; 0 for other steps.
    gmacs : float or None
        10**9 MACs per second.
    zero_share, zero_pair_share : float or None
        Share of zeros among the activations that it reads, and of zero pairs of neighbouring channels in the
        engine's own order; ``None`` for wider values than 8 bits, and pairs for the network's input.
    share : float
        Of the sum of all steps' ``seconds``.
    """

    name: str
    head: str
    kind: str
    kernel: Kernel | str | None
    seconds: float
    macs: int
    bytes: int
    gmacs: float | None
    zero_share: float | None
    zero_pair_share: float | None
    share: float


@dataclass(frozen=True)
class Profile:
    """Layers in the order of the network, and what they add up to.

    Attributes
    ----------
    layers : list of LayerProfile
    step_nanoseconds : list of list of int
        Each run's time of each layer.
    seconds : float
        Sum of the layers' medians.
    run_seconds : float
        Median of whole runs, loading the input and starting the threads included.
    macs : int
    images, runs, threads : int
        Different images, runs of each, threads.
    isa : str
    tuned : bool
    """

    layers: list[LayerProfile]
    step_nanoseconds: list[list[int]]
    seconds: float
    run_seconds: float
    macs: int
    images: int
    runs: int
    threads: int
    isa: str
    tuned: bool

    @property
    def gmacs(self) -> float:
        """10**9 MACs a second of the whole network, steps without MACs included."""
        return self.macs / self.seconds / 1e9 if self.seconds else 0.0


def profile(engine: Engine, inputs: Array, runs: int = 5) -> Profile:
    """Time every step of a network on one image at a time, all threads together.

    Parameters
    ----------
    engine : Engine
    inputs : array
        (N, C, H, W) integers as for :meth:`Engine.run_integer`; N at least 1.
    runs : int
        How often each image runs, interleaved with the others, after one more round as a warm-up.

    Returns
    -------
    Profile

    Raises
    ------
    ValueError
        On no image, fewer runs than one, or inputs that the engine does not take.
    """
    if runs < 1:
        raise ValueError(f"runs must be at least 1, got {runs}")
    if len(inputs) < 1:
        raise ValueError("profiling needs at least one image")
    zeros = _zeros(engine, inputs)
    engine.step_times(inputs[:1])
    samples: list[list[int]] = []
    whole: list[float] = []
    names: list[str] = []
    for _ in range(runs):
        for image in range(len(inputs)):
            begun = time.perf_counter()
            times = engine.step_times(inputs[image : image + 1])
            whole.append(time.perf_counter() - begun)
            names = list(times)
            samples.append(list(times.values()))
    seconds = {
        name: statistics.median(column) / 1e9 for name, column in zip(names, zip(*samples, strict=True), strict=True)
    }
    total = sum(seconds.values())
    layers = [_layer(engine, name, seconds, total, zeros) for name in names]
    return Profile(
        layers=layers,
        step_nanoseconds=samples,
        seconds=total,
        run_seconds=statistics.median(whole),
        macs=sum(layer.macs for layer in layers),
        images=len(inputs),
        runs=runs,
        threads=engine.threads,
        isa=engine.isa,
        tuned=engine.tuned,
    )


def trace_events(profile: Profile) -> dict[str, Any]:
    """The runs of a profile as a Chrome trace: load it in Perfetto or ``chrome://tracing``.

    A complete event (``X``) for each step of each run, one run after the other, times in microseconds.
    """
    events: list[dict[str, Any]] = [
        {"ph": "M", "name": "process_name", "pid": 1, "tid": 1, "args": {"name": f"nybble {profile.isa}"}},
        {"ph": "M", "name": "thread_name", "pid": 1, "tid": 1, "args": {"name": f"{profile.threads} threads"}},
    ]
    start = 0
    for run, sample in enumerate(profile.step_nanoseconds):
        for layer, nanoseconds in zip(profile.layers, sample, strict=True):
            arguments: dict[str, Any] = {"run": run, "value": layer.name, "macs": layer.macs}
            if layer.macs and nanoseconds:
                arguments["gmacs"] = round(layer.macs / nanoseconds, 3)
            if layer.kernel is not None:
                arguments["kernel"] = describe(layer.kernel)
            for name in ("zero_share", "zero_pair_share"):
                if (share := getattr(layer, name)) is not None:
                    arguments[name] = round(share, 4)
            label = f"lists of {layer.head}" if layer.kind == "lists" else layer.head
            events.append(
                {
                    "ph": "X",
                    "name": label,
                    "cat": layer.kind,
                    "pid": 1,
                    "tid": 1,
                    "ts": start / 1e3,
                    "dur": nanoseconds / 1e3,
                    "args": arguments,
                }
            )
            start += nanoseconds
    return {"traceEvents": events, "displayTimeUnit": "ms"}


def describe(kernel: Kernel | str) -> str:
    """A short text for a kernel: method, outputs x pixels, and for the sparse methods visit and list block."""
    if isinstance(kernel, str):
        return kernel
    from nybble.backends.cpu.kernel import LIST_GROUPS

    text = f"{kernel.method} {kernel.block_outputs}x{kernel.tile_pixels}"
    if kernel.method in LIST_GROUPS:
        text += f" {kernel.visit_bytes / 1024:g}K/{kernel.list_block}"
    return text


def zero_pair_share(values: Array, order: Order | None) -> float:
    """Share of pairs of neighbouring channels, in an order, that are both zero; of (N, C, ...) values.

    The last of an odd number of channels has a zero for a partner.
    """
    active = values != 0
    if order is not None:
        active = active[:, order]
    pairs = active[:, 0::2].copy()
    pairs[:, : active.shape[1] // 2] |= active[:, 1::2]
    return 1 - float(pairs.mean())


def _layer(
    engine: Engine, name: str, seconds: dict[str, float], total: float, zeros: dict[str, tuple[float, float | None]]
) -> LayerProfile:
    step = next((step for step in engine.steps if step.output == name), None)
    if step is not None:
        source, head, kind = step.source, step.head.name, step.kind
    elif engine.steps:
        source = head = _listed(engine.plan, name)
        kind = "lists"
    else:
        # Nodes run one by one.
        node = engine.graph[name]
        source, head, kind = node.inputs[0], name, node.op.lower()
    macs = step.macs if step is not None else 0
    moved = _bytes_moved(step) if step is not None else 0
    zero, pairs = zeros.get(source, (None, None))
    return LayerProfile(
        name=name,
        head=head,
        kind=kind,
        kernel=_kernel(engine, name),
        seconds=seconds[name],
        macs=macs,
        bytes=moved,
        gmacs=macs / seconds[name] / 1e9 if macs and seconds[name] else None,
        zero_share=zero,
        zero_pair_share=pairs,
        share=seconds[name] / total if total else 0.0,
    )


def _listed(plan: Plan, name: str) -> str:
    """The value that the lists are built from."""
    from nybble.backends.cpu.plan import lists_of

    return next(value for value in plan.lists if name in {lists_of(value, group) for group in plan.lists[value]})


def _kernel(engine: Engine, name: str) -> Kernel | str | None:
    plan = engine.cpu_plan
    return engine.kernel_name(name) if plan is None else plan.kernels.get(name)


def _bytes_moved(step: Step) -> int:
    if step.conv is None:
        return 0
    return sum(math.prod(shape) for shape in (step.input.shape, step.conv.weight.shape, step.result.shape))


def _zeros(engine: Engine, inputs: Array) -> dict[str, tuple[float, float | None]]:
    """Shares of zeros and of zero pairs of every 8-bit value that a step reads, over all inputs."""
    entry = engine.graph.inputs[0].name
    read = {step.source for step in engine.steps} or {name for node in engine.graph for name in node.inputs}
    # Pairs of channels mean something where kernels skip them.
    orders = None if engine.cpu_plan is None else engine.cpu_plan.orders
    found: dict[str, list[tuple[float, float | None]]] = {}
    for image in range(len(inputs)):
        # One image at a time: all values of an image take megabytes.
        for name, value in engine.tap(inputs[image : image + 1]).items():
            if name in read and value.dtype.itemsize == 1:
                pairs = None if orders is None else zero_pair_share(value, orders.get(name))
                found.setdefault(name, []).append((float((value == 0).mean()), pairs))
    shares: dict[str, tuple[float, float | None]] = {entry: (float((inputs == 0).mean()), None)}
    for name, values in found.items():
        shares[name] = _means(values)
    return shares


def _means(rows: Sequence[tuple[float, float | None]]) -> tuple[float, float | None]:
    pairs = [pair for _, pair in rows if pair is not None]
    return float(np.mean([zero for zero, _ in rows])), float(np.mean(pairs)) if pairs else None
