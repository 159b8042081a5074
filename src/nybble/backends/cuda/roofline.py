"""The roofline of a network on a GPU."""

from __future__ import annotations

from nybble.backends.cuda.gpus import gpu_named, least_seconds
from nybble.backends.cuda.layout import Form
from nybble.backends.cuda.plan import CudaPlan, make_plan
from nybble.graph import Graph
from nybble.graph.expansion import expand
from nybble.lower import Step


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
    least = 0.0
    for step in plan.steps:
        once, each = moved_bytes(plan, step)
        least += least_seconds(gpu, step.macs * images, product_bits(plan, step), each * images + once)
    return least * images_per_second / images


def product_bits(plan: CudaPlan, step: Step) -> int:
    """Bits of a step's products on tensor cores; 0 without any."""
    if step.conv is None or step.conv.groups > 1:
        return 0
    return 4 if plan.values[step.source].form is Form.NIBBLES else 8


def moved_bytes(plan: CudaPlan, step: Step) -> tuple[int, int]:
    """Minimum bytes that a step reads and writes: weights, once per batch, and values, for each image."""
    nibbles = plan.values[step.source].form is Form.NIBBLES
    weights = 0 if step.conv is None else step.conv.weights().size * (4 if nibbles else 8) // 8
    values = sum(plan.values[value.name].nbytes for value in step.inputs)
    return weights, values + plan.values[step.output].nbytes
