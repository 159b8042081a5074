"""Planning: which steps run as one, how each value is stored and where it lies in the arena."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from nybble.backends.cuda.layout import Stored, forms
from nybble.backends.cuda.rules import projection_of
from nybble.backends.cuda.stem import Stem, find_stem
from nybble.backends.errors import EngineError
from nybble.graph import Graph
from nybble.lower import Step, Value, fuse
from nybble.lower.arena import Lifetime, place


@dataclass(frozen=True)
class Run:
    """Steps that are computed together. Only the result of the last one is stored.

    Usually one; a convolution and its pool; or a projection and the convolution that adds it.

    Attributes
    ----------
    steps : tuple of Step
    """

    steps: tuple[Step, ...]

    @property
    def result(self) -> Value:
        """The value that is stored."""
        return self.steps[-1].result

    @property
    def output(self) -> str:
        """The name of the result."""
        return self.result.name

    @property
    def inputs(self) -> list[Value]:
        """Values that are read from memory."""
        inner = {step.output for step in self.steps}
        return [value for step in self.steps for value in step.inputs if value.name not in inner]

    @property
    def whole(self) -> Step:
        """All of them as one step: the convolution (of two, the one that adds)."""
        if len(self.steps) == 1:
            return self.steps[0]
        nodes = [node for step in self.steps for node in step.nodes]
        conv = self.steps[-1] if self.has_projection else self.steps[0]
        macs = sum(step.macs for step in self.steps)
        return replace(conv, nodes=nodes, inputs=self.inputs, result=self.result, macs=macs)

    @property
    def has_projection(self) -> bool:
        """Whether the first of two steps is the projection that the second one adds."""
        return len(self.steps) == 2 and self.steps[1].shortcut is not None


@dataclass
class CudaPlan:
    """Steps, stored values and the place of each in the arena of one image. N images need N times these sizes.

    Attributes
    ----------
    graph : Graph
    runs : list of Run
        All steps, in the order in which they are computed.
    stem : Stem or None
        The first run, if it reads the network's input without a conversion. Otherwise the input is converted first.
    values : dict of Stored
        By name, those that are never stored included.
    offsets : dict of int
        Bytes from the arena's start, for one image.
    arena_bytes : int
        Of one image.
    kernels : Mapping
        Names of convolution kernels to use instead of the defaults, by what a step writes.
    """

    graph: Graph
    runs: list[Run]
    stem: Stem | None
    values: dict[str, Stored]
    offsets: dict[str, int]
    arena_bytes: int
    kernels: Mapping[str, str] = field(default_factory=dict)

    def is_stem(self, run: Run) -> bool:
        """Whether the launch that reads the input computes a run."""
        return self.stem is not None and run is self.runs[0]

    @property
    def steps(self) -> list[Step]:
        """The steps of all runs."""
        return [step for run in self.runs for step in run.steps]

    @property
    def input(self) -> Stored:
        """The network's input."""
        return self.values[self.graph.inputs[0].name]

    @property
    def output(self) -> Stored:
        """The network's first output."""
        return self.values[self.graph.outputs[0]]

    @property
    def outputs(self) -> list[Stored]:
        """All outputs."""
        return [self.values[name] for name in self.graph.outputs]


def make_plan(graph: Graph, kernels: Mapping[str, str]) -> CudaPlan:
    """Fuse and place. Raises :class:`EngineError` if ``kernels`` names anything but the result of a convolution."""
    steps = fuse(graph)
    unknown = sorted(kernels.keys() - {step.output for step in steps if step.conv is not None})
    if unknown:
        raise EngineError(f"choices: {unknown[0]!r} is not the result of a convolution")
    form = forms(steps)
    values = {v.name: Stored(v, form[v.name]) for step in steps for v in (*step.inputs, step.result)}
    stem = find_stem(steps, values, kernels, graph.outputs)
    first = () if stem is None else stem.steps
    runs = [Run(first)] if first else []
    runs += _runs([step for step in steps if not any(step is one for one in first)], values, kernels)
    # The stem reads the input where the caller put it.
    written = ({} if first else {graph.inputs[0].name: -1}) | {run.output: i for i, run in enumerate(runs)}
    last = dict(written)
    for i, run in enumerate(runs):
        last.update((value.name, i) for value in run.inputs if value.name in written)
    last.update((name, len(runs)) for name in graph.outputs if name in written)
    lifetimes = [Lifetime(values[name].nbytes, written[name], last[name]) for name in written]
    offsets, total = place(lifetimes)
    return CudaPlan(graph, runs, stem, values, dict(zip(written, offsets, strict=True)), total, kernels)


def _runs(steps: list[Step], values: Mapping[str, Stored], kernels: Mapping[str, str]) -> list[Run]:
    """One run per step. A convolution and its projection share one, unless kernels are chosen for them separately."""
    readers = Counter(name for step in steps for name in step.reads)
    alone = {step.output: step for step in steps if readers[step.output] == 1 and not step.result.is_output}
    joined = {}
    for step in steps:
        projection = projection_of(step, alone, values)
        chosen = kernels.get(step.output, "join_")
        if projection is not None and projection.output not in kernels and chosen.startswith("join_"):
            joined[step.output] = projection
    taken = {projection.output for projection in joined.values()}
    return [
        Run((joined[step.output], step)) if step.output in joined else Run((step,))
        for step in steps
        if step.output not in taken
    ]
