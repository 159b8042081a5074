"""Planning: how each value is stored and where it lies in the arena."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from nybble.backends.cuda.layout import Stored, forms
from nybble.backends.errors import EngineError
from nybble.graph import Graph
from nybble.lower import Step, fuse
from nybble.lower.arena import Lifetime, place


@dataclass
class CudaPlan:
    """Steps, stored values and the place of each in the arena of one image; that of several is as many times as large.

    Attributes
    ----------
    graph : Graph
    steps : list of Step
    values : dict of Stored
        By name.
    offsets : dict of int
        Bytes from the arena's start, for one image.
    arena_bytes : int
        Of one image.
    kernels : Mapping
        Names of convolution kernels to use instead of the defaults, by what a step writes.
    """

    graph: Graph
    steps: list[Step]
    values: dict[str, Stored]
    offsets: dict[str, int]
    arena_bytes: int
    kernels: Mapping[str, str] = field(default_factory=dict)

    @property
    def input(self) -> Stored:
        """The network's input."""
        return self.values[self.graph.inputs[0].name]

    @property
    def output(self) -> Stored:
        """The network's output."""
        return self.values[self.graph.outputs[0]]


def make_plan(graph: Graph, kernels: Mapping[str, str]) -> CudaPlan:
    """Fuse and place. Raises :class:`EngineError` on kernels for steps that there are not."""
    steps = fuse(graph)
    unknown = sorted(kernels.keys() - {step.output for step in steps if step.conv is not None})
    if unknown:
        raise EngineError(f"choices: {unknown[0]!r} is not the result of a convolution")
    form = forms(steps)
    values = {v.name: Stored(v, form[v.name]) for step in steps for v in (*step.inputs, step.result)}
    written = {graph.inputs[0].name: -1} | {step.output: i for i, step in enumerate(steps)}
    last = dict(written)
    for i, step in enumerate(steps):
        last.update((name, i) for name in step.reads)
    last[graph.outputs[0]] = len(steps)
    lifetimes = [Lifetime(values[name].nbytes, written[name], last[name]) for name in written]
    offsets, total = place(lifetimes)
    return CudaPlan(graph, steps, values, dict(zip(written, offsets, strict=True)), total, kernels)
