"""The roofline of a network on a GPU."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from nybble.backends.cuda.gpus import Gpu, gpu_named, least_seconds
from nybble.backends.cuda.layout import Form
from nybble.backends.cuda.plan import CudaPlan, Run, make_plan
from nybble.graph import Graph
from nybble.graph.expansion import expand


def share_of_roofline(graph: Graph, isa: str, images: int, images_per_second: float) -> float | None:
    """The roofline's time of a network divided by the measured time, for a batch of images.

    Parameters
    ----------
    graph : Graph
    isa : str
        ``isa`` of the engine, such as ``sm_89 (NVIDIA L4)``.
    images : int
    images_per_second : float

    Returns
    -------
    float or None
        ``None`` for GPUs that are not in the table of :mod:`nybble.backends.cuda.gpus`.
    """
    gpu = gpu_named(isa.partition("(")[2].removesuffix(")"))
    if gpu is None or not images_per_second:
        return None
    plan = make_plan(expand(graph), {})
    demands = [demand(plan, run) for run in plan.runs]
    return share(gpu, demands, images, images / images_per_second)


class Demand(NamedTuple):
    """The least work of a run.

    Attributes
    ----------
    macs : int
        Multiply-accumulates of one image.
    bits : int
        Of its products on tensor cores; 0 without any.
    bytes : int
        Of values that are read and written for one image, as they are stored.
    weight_bytes : int
        Of weights, which are read once per batch.
    """

    macs: int
    bits: int
    bytes: int
    weight_bytes: int


def share(gpu: Gpu, demands: Iterable[Demand], images: int, seconds: float) -> float:
    """The least time of a batch of images, divided by the measured time."""
    least = sum(least_seconds(gpu, one.macs * images, one.bits, moved(one, images)) for one in demands)
    return least / seconds


def moved(demand: Demand, images: int) -> int:
    """Bytes that are read and written for a batch."""
    return demand.bytes * images + demand.weight_bytes


def demand(plan: CudaPlan, run: Run) -> Demand:
    """The least work of the steps of a run together. A stem reads the input as it comes, one byte per channel."""
    weights = bits = 0
    for step in run.steps:
        if step.conv is None:
            continue
        width = 4 if plan.values[step.source].form is Form.NIBBLES else 8
        weights += step.conv.weights().size * width // 8
        bits = max(bits, width if step.conv.groups == 1 else 0)
    entry = plan.input
    read = sum(plan.values[value.name].nbytes for value in run.inputs)
    if plan.is_stem(run):
        read = entry.channels * entry.pixels
    return Demand(run.whole.macs, bits, read + plan.values[run.output].nbytes, weights)
