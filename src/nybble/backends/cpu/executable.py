"""A native program as an executable."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from nybble import _native
from nybble.backends.base import Backend, Executable, NotANumberError, Options
from nybble.backends.cpu.build import Built
from nybble.backends.cpu.choices import Choices, check
from nybble.backends.cpu.lowered import lowered
from nybble.backends.cpu.plan import Plan
from nybble.backends.cpu.planner import make_plan
from nybble.backends.cpu.tuned import is_enabled, load_choices, warn_ignored
from nybble.backends.errors import EngineError
from nybble.graph import Graph, Preprocessing
from nybble.graph.types import Array
from nybble.lower import Step

#: Most images that go through a step together, if the batch has as many for every thread. Weights are then read less
#: often, and late layers have fewer incomplete tiles. Memory grows only to the number of images that have run together.
BATCH_IMAGES = 4


class CpuBackend(Backend):
    """Compiles networks to native programs."""

    name = "cpu"
    takes_several_outputs = True

    def compile(self, graph: Graph, options: Options) -> Executable:
        """Compile with the given choices, else with stored tuned ones, else with the defaults."""
        return CpuExecutable(graph, options)


class CpuExecutable(Executable):
    """A native program with its packed weights. Threads and the memory of runs are shared by the process.

    Attributes
    ----------
    plan : Plan
        The steps, and the place of each value.

    Notes
    -----
    Several Python threads may call one executable. The interpreter lock is released while a network runs. Only the
    result is allocated.
    """

    def __init__(self, graph: Graph, options: Options) -> None:
        self.graph = graph
        self._lowered = lowered(graph)
        self.isa = chosen_isa(options.isa)
        self.threads = chosen_threads(options.threads)
        self.plan: Plan
        self._built: Built | None
        choices = options.choices
        if choices is not None:
            if not isinstance(choices, Choices):
                raise TypeError(f"choices must be Choices, got {type(choices).__name__}")
            check(self._lowered, self.isa, choices)
        elif options.tuned and is_enabled():
            choices = load_choices(graph, self.isa, self.threads)
            try:
                self._build(choices)
                return
            except ValueError as error:
                if choices is None:
                    raise
                # Python's checks accept the choices, but the native part refuses them.
                warn_ignored(repr(graph), error)
                choices = None
        self._build(choices)

    def _build(self, choices: Choices | None) -> None:
        self.plan = make_plan(self._lowered, self.isa, choices)
        self.tuned = self.plan.tuned
        try:
            self._built = Built(self.plan, self.threads, BATCH_IMAGES)
        except RuntimeError as error:
            raise EngineError(f"threads={self.threads}: {error}") from None

    @property
    def steps(self) -> Sequence[Step]:
        """The steps of the plan."""
        return self.plan.steps

    @property
    def step_names(self) -> Sequence[str]:
        """The outputs of the fused steps, as values of the graph."""
        return [step.output for step in self.plan.steps if step.output in self.graph.values]

    @property
    def value_bytes(self) -> int:
        """The size of the arena of one image."""
        return self.plan.arena_bytes

    def run(self, x: Array) -> Array:
        """One call of the native program."""
        return _only(self.run_several(x, None))

    def run_several(self, x: Array, preprocessing: Preprocessing | None) -> dict[str, Array]:
        """All results lie in one block of memory, which the native program fills."""
        built = self._open()
        together, results = built.results(len(x))
        if preprocessing is None:
            built.program.run_integer(x.view(np.uint8), together)
        elif x.dtype == np.uint8:
            built.program.run_samples(x, built.table(preprocessing), together)
        elif not built.program.run_float(x, *_input_range(preprocessing), together):
            raise NotANumberError("the input holds NaN")
        return results

    def run_photos(self, photos: Array, preprocessing: Preprocessing) -> Array:
        """The native program converts samples to codes."""
        return _only(self.run_several(photos, preprocessing))

    def run_normalised(self, x: Array, preprocessing: Preprocessing) -> Array:
        """The native program converts numbers to codes and detects NaN."""
        return _only(self.run_several(x, preprocessing))

    def tap(self, x: Array) -> dict[str, Array]:
        """Runs the same kernels as :meth:`run`, a few images at a time."""
        built = self._open()
        names = self.step_names
        results = {name: built.buffer(name, len(x)) for name in names}
        ids = [built.ids[name] for name in names]
        for first in range(0, len(x), BATCH_IMAGES):
            part = slice(first, first + BATCH_IMAGES)
            buffers = [_bytes(results[name][part]) for name in names]
            together, _ = built.results(len(x[part]))
            built.program.run_tapped(x[part].view(np.uint8), together, ids, buffers)
        return {name: built.restore(name, values) for name, values in results.items()}

    def step_times(self, x: Array) -> dict[str, int]:
        """Times from the end of one step to the end of the next; then those of lists, which are subtracted."""
        built = self._open()
        built.program.take_step_times()
        built.program.set_timing(True)
        try:
            self.run_several(x, None)
        finally:
            built.program.set_timing(False)
        return dict(zip(built.step_names, built.program.take_step_times(), strict=True))

    def close(self) -> None:
        """Waits for a run in another thread, which keeps the program until it has ended."""
        self._built = None

    def _open(self) -> Built:
        if self._built is None:
            raise ValueError("the engine is closed")
        return self._built


def available_isas() -> list[str]:
    """Instruction sets that this build has kernels for and this machine can run, slowest first."""
    return list(_native.available_isas())


def chosen_isa(isa: str | None) -> str:
    """The instruction set given, else that of ``NYBBLE_ISA``, else the best one. Raises EngineError if it is absent."""
    name = isa if isa is not None else os.environ.get("NYBBLE_ISA", "")
    if not name:
        return available_isas()[-1]
    try:
        _native.check_isa(name)
    except ValueError as error:
        origin = "isa" if isa is not None else "the environment variable NYBBLE_ISA"
        raise EngineError(f"{origin}: {error}") from None
    return name


def chosen_threads(threads: int | None) -> int:
    """The given number, else one thread per usable processor. Raises EngineError if it is out of range."""
    if threads is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if isinstance(threads, bool) or not isinstance(threads, int) or not 1 <= threads <= 1024:
        raise EngineError(f"threads must be an integer in 1..1024, got {threads!r}")
    return threads


def _input_range(preprocessing: Preprocessing) -> tuple[float, float, float, float]:
    """The parameters that turn normalised photos into codes: numerator and denominator of the scale, code limits."""
    high = float(preprocessing.input_type.maximum)
    low = -high if preprocessing.input_type.is_signed else 0.0
    return preprocessing.scale_numerator, preprocessing.scale_denominator, low, high


def _only(results: dict[str, Array]) -> Array:
    (result,) = results.values()
    return result


def _bytes(array: Array) -> Array:
    return array.reshape(-1).view(np.uint8)
