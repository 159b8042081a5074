"""A model of the published network's time on a T4; not measured. ``make gpu-proof`` prints it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from compiled import compiled, instructions, needs_nvrtc, on_ptx
from ptx.module import CountingModule
from work import launch_work, read_machine

import nybble
from nybble.backends import Options
from nybble.backends.cuda import CudaBackend, open_emulated
from nybble.backends.cuda.gpus import gpu_named
from nybble.backends.cuda.kernel_time import Work, microseconds, times
from nybble.backends.cuda.plan import make_plan
from nybble.backends.cuda.roofline import demand, moved
from nybble.graph import Graph
from nybble.lower import expand

needs_nvrtc()

IMAGES = 32
#: Microseconds an image: what a roofline of each layer gives (caches ignored), and what NVIDIA measured on a T4.
ROOFLINE, MEASURED_INT4, MEASURED_INT8 = 57.0, 111.9, 177.9


def memory_bytes(graph: Graph) -> list[tuple[str, float]]:
    """Minimum bytes that each launch reads and writes."""
    plan = make_plan(expand(graph), {})
    entry = plan.input
    found = [] if plan.stem else [("input", IMAGES * (entry.channels * entry.pixels + float(entry.nbytes)))]
    return found + [(run.output, float(moved(demand(plan, run), IMAGES))) for run in plan.runs]


def works(graph: Graph) -> list[tuple[str, str, Work]]:
    """Step, kernel and work of each launch on compute capability 7.5."""
    module = CountingModule(compiled(75).ptx, 75)
    entry = graph.inputs[0]
    with on_ptx(module):
        executable = CudaBackend("model", open_emulated, batch_images=IMAGES).compile(graph, Options(isa="sm_75"))
        executable.run(np.zeros((IMAGES, *entry.shape), entry.dtype.storage))
    moved = memory_bytes(graph)
    assert len(moved) == len(module.launches)
    found = []
    for (step, nbytes), (name, counts) in zip(moved, module.launches, strict=True):
        machine, written = read_machine(instructions(75)[name]), module.outside(name)
        found.append((step, name, launch_work(name, counts, machine, written, nbytes)))
    return found


@pytest.mark.data
def test_the_published_network_on_a_t4(shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gpu = gpu_named("Tesla T4")
    assert gpu is not None
    lines, total, sums = [], 0.0, dict.fromkeys(("tensor", "instructions", "shared", "memory"), 0.0)
    for step, name, work in works(nybble.read_graph(shared_data / "nvidia-resnet50-int4")):
        parts = {key: value / IMAGES for key, value in times(work, gpu).items()}
        most = max(parts, key=lambda key: parts[key])
        one = microseconds(work, gpu) / IMAGES
        total += one
        sums[most] += one
        lines.append(f"{step:28} {name:34} {one:6.2f} us {most:12} " + " ".join(f"{v:5.2f}" for v in parts.values()))
    with capsys.disabled():
        print("\n" + "\n".join(lines))  # noqa: T201
        print(f"model, not measured: {total:.1f} us an image on a {gpu.names[0]}, {IMAGES} images a batch")  # noqa: T201
        print("of which " + ", ".join(f"{value:.1f} in kernels bound by {key}" for key, value in sums.items()))  # noqa: T201
        print(f"roofline of the layers: {ROOFLINE} us; NVIDIA measured {MEASURED_INT4} (INT4), {MEASURED_INT8} (INT8)")  # noqa: T201
    assert 20 < total < 1000
