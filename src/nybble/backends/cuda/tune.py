"""Measures the kernels that each convolution of a network can use, with events of the GPU."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, replace

from nybble.backends.cuda.builder import Builder
from nybble.backends.cuda.constants import Constants
from nybble.backends.cuda.device import Device, Launch
from nybble.backends.cuda.entrance import entrance
from nybble.backends.cuda.kinds import launches_of
from nybble.backends.cuda.plan import CudaPlan, Run, make_plan
from nybble.backends.cuda.steps.conv import kernels_of
from nybble.graph import Graph
from nybble.graph.expansion import expand
from nybble.graph.types import Array
from nybble.progress import Progress, silent

#: Minimum rounds of each step. The first is a warm-up.
FEWEST_ROUNDS = 4
#: Fraction by which a kernel must be faster than the default. Smaller differences are noise.
ADVANTAGE = 0.02


@dataclass(frozen=True)
class Measured:
    """A convolution and its candidates.

    Attributes
    ----------
    step : str
        The value that it writes.
    default, chosen : str
        Names of kernels.
    seconds : dict
        Median of each candidate, for the whole batch.
    """

    step: str
    default: str
    chosen: str
    seconds: dict[str, float]


@dataclass(frozen=True)
class Tuning:
    """The result.

    Attributes
    ----------
    steps : tuple of Measured
        Convolutions with several candidates.
    images : int
        Size of the batch.
    """

    steps: tuple[Measured, ...]
    images: int

    @property
    def kernels(self) -> dict[str, str]:
        """Choices other than the defaults, by the value that the step writes."""
        return {one.step: one.chosen for one in self.steps if one.chosen != one.default}

    @property
    def speedup(self) -> float:
        """Time of the measured convolutions with the defaults, divided by that with the choices."""
        chosen = sum(one.seconds[one.chosen] for one in self.steps)
        return sum(one.seconds[one.default] for one in self.steps) / chosen if chosen else 1.0


def tune(graph: Graph, x: Array, device: Device, seconds: float, progress: Progress = silent) -> Tuning:
    """Run a network step by step, and each convolution with all of its candidates, interleaved.

    Parameters
    ----------
    graph : Graph
    x : array
        Integers (N, C, H, W), which run as one batch.
    device : Device
    seconds : float
        Approximate time to measure. Steps get equal parts, but a minimum number of rounds.
    progress : Progress
    """
    plan = make_plan(expand(graph), {})
    constants = Constants(device)
    arena, source = device.allocate(plan.arena_bytes * len(x)), device.allocate(max(1, x.nbytes))
    device.write(source, x)
    device.launch(entrance(Builder(plan, constants, arena, len(x)), source, None))
    found = []
    # The stem has been computed, and has no other kernel.
    runs = [run for run in plan.runs if not plan.is_stem(run)]
    for number, run in enumerate(runs):
        progress("measuring steps", number, len(runs))
        candidates = _candidates(plan, run, constants, arena, len(x))
        if len(candidates) > 1:
            found.append(_measured(run.output, candidates, device, seconds / len(runs)))
        # The default kernel writes what the next steps read.
        for launch in next(iter(candidates.values())):
            device.launch(launch)
    for address in (arena, source):
        device.release(address)
    constants.release()
    return Tuning(tuple(found), len(x))


def _candidates(plan: CudaPlan, run: Run, constants: Constants, arena: int, images: int) -> dict[str, list[Launch]]:
    """The launches of a run with each kernel that it can use, the default first."""
    builder = Builder(plan, constants, arena, images)
    launches = launches_of(run, builder)
    found = {launches[-1].kernel: launches}
    conv = run.steps[-1].conv
    if conv is not None and conv.groups == 1:
        for kernel in kernels_of(run, builder):
            if kernel.name not in found:
                chosen = replace(plan, kernels={run.output: kernel.name})
                found[kernel.name] = launches_of(run, Builder(chosen, constants, arena, images))
    return found


def _measured(step: str, candidates: dict[str, list[Launch]], device: Device, seconds: float) -> Measured:
    times: dict[str, list[int]] = {name: [] for name in candidates}
    begun, rounds = time.monotonic(), 0
    while rounds < FEWEST_ROUNDS or time.monotonic() - begun < seconds:
        for name, launches in candidates.items():
            first = device.event()
            for launch in launches:
                device.launch(launch)
            times[name].append(device.nanoseconds(first, device.event()))
        rounds += 1
    medians = {name: statistics.median(taken[1:]) / 1e9 for name, taken in times.items()}
    default = next(iter(candidates))
    fastest = min(medians, key=lambda name: medians[name])
    is_better = medians[fastest] < medians[default] * (1 - ADVANTAGE)
    return Measured(step, default, fastest if is_better else default, medians)
