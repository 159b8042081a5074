"""The table of GPUs, and the model of a kernel's time."""

from __future__ import annotations

import pytest

from nybble.backends.cuda.gpus import GPUS, Gpu, gpu_named
from nybble.backends.cuda.kernel_time import Work, microseconds, times


def test_gpus_are_found_by_what_a_driver_says() -> None:
    names = [name for gpu in GPUS for name in gpu.names]
    assert len(set(names)) == len(names)
    for name in names:
        found = gpu_named(name)
        assert found is not None and name in found.names
    for name in ("NVIDIA H200", "NVIDIA A10G", "NVIDIA GeForce RTX 3090 Ti", "NVIDIA L40S", ""):
        assert gpu_named(name) is None


@pytest.mark.parametrize("gpu", GPUS, ids=lambda gpu: gpu.names[0])
def test_figures_agree_with_the_multiprocessors(gpu: Gpu) -> None:
    """4-bit products per SM and cycle are a power of two, and twice the 8-bit products, up to rounding."""
    assert gpu.source
    assert gpu.int4 == pytest.approx(2 * gpu.int8)
    per_cycle = gpu.int4 * 1e6 / 2 / gpu.multiprocessors / gpu.megahertz
    assert min(abs(per_cycle / size - 1) for size in (1024, 2048, 4096)) < 0.005


def test_the_slowest_resource_counts() -> None:
    gpu = gpu_named("Tesla T4")
    assert gpu is not None
    work = Work(
        products4=130e6, products8=65e6, instructions=4 * 40 * 1590 * 3, wavefronts=40 * 1590 * 4, memory_bytes=320e3
    )
    assert times(work, gpu) == pytest.approx({"tensor": 2, "instructions": 3, "shared": 4, "memory": 1})
    assert microseconds(work, gpu) == pytest.approx(4)
