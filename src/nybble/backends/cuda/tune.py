"""Measures the kernels that each convolution of a network can run on, by events of the GPU."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, replace

from nybble.backends.cuda.builder import Builder
from nybble.backends.cuda.constants import Constants
from nybble.backends.cuda.device import Device, Launch
from nybble.backends.cuda.kinds import kind_of
from nybble.backends.cuda.plan import CudaPlan, make_plan
from nybble.backends.cuda.steps.conv import kernels_of
from nybble.graph import Graph
from nybble.graph.expansion import expand
from nybble.graph.types import Array
from nybble.lower import Step
from nybble.progress import Progress, silent

#: Rounds of each step at least: the first is a warm-up.
FEWEST_ROUNDS = 4
#: Another kernel than the default must be faster by this part: less is noise.
ADVANTAGE = 0.02


@dataclass(frozen=True)
class Measured:
    """A convolution and its candidates.

    Attributes
    ----------
    step : str
        What it writes.
    default, chosen : str
        Names of kernels.
    seconds : dict
        Median of each candidate, for all images together.
    """

    step: str
    default: str
    chosen: str
    seconds: dict[str, float]


@dataclass(frozen=True)
class Tuning:
    """What was found.

    Attributes
    ----------
    steps : tuple of Measured
        Convolutions with more candidates than one.
    images : int
        That ran together.
    """

    steps: tuple[Measured, ...]
    images: int

    @property
    def kernels(self) -> dict[str, str]:
        """Choices other than the defaults, by what the step writes."""
        return {one.step: one.chosen for one in self.steps if one.chosen != one.default}

    @property
    def speedup(self) -> float:
        """How much faster the measured convolutions are together than with the defaults."""
        chosen = sum(one.seconds[one.chosen] for one in self.steps)
        return sum(one.seconds[one.default] for one in self.steps) / chosen if chosen else 1.0


def tune(graph: Graph, x: Array, device: Device, seconds: float, progress: Progress = silent) -> Tuning:
    """Run a network step by step; each convolution on every kernel that it can run on, in turns.

    Parameters
    ----------
    graph : Graph
    x : array
        Integers (N, C, H, W): all images run together.
    device : Device
    seconds : float
        To measure for, about: steps get equal parts, and a few rounds at least.
    progress : Progress
    """
    plan = make_plan(expand(graph), {})
    constants = Constants(device)
    arena, source = device.allocate(plan.arena_bytes * len(x)), device.allocate(max(1, x.nbytes))
    device.write(source, x)
    device.launch(Builder(plan, constants, arena, len(x)).entrance(source, None))
    found = []
    for number, step in enumerate(plan.steps):
        progress("measuring steps", number, len(plan.steps))
        candidates = _candidates(plan, step, constants, arena, len(x))
        if len(candidates) > 1:
            found.append(_measured(step.output, candidates, device, seconds / len(plan.steps)))
        # Whatever was measured, the step's own kernel writes what the next ones read.
        for launch in next(iter(candidates.values())):
            device.launch(launch)
    for address in (arena, source):
        device.release(address)
    constants.release()
    return Tuning(tuple(found), len(x))


def _candidates(plan: CudaPlan, step: Step, constants: Constants, arena: int, images: int) -> dict[str, list[Launch]]:
    """The launches of a step on each kernel that it can run on, the default first."""
    builder = Builder(plan, constants, arena, images)
    launches = kind_of(step).launches(step, builder)
    found = {launches[-1].kernel: launches}
    if step.conv is not None and step.conv.groups == 1:
        for kernel in kernels_of(step, builder):
            if kernel.name not in found:
                chosen = replace(plan, kernels={step.output: kernel.name})
                found[kernel.name] = kind_of(step).launches(step, Builder(chosen, constants, arena, images))
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
