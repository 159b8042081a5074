"""A model of a kernel's time, not a measurement: the largest of products, instructions, shared memory and memory."""

from __future__ import annotations

from dataclasses import dataclass

from nybble.backends.cuda.gpus import Gpu

#: Instructions of warps that an SM issues per cycle, and bytes of shared memory that it moves per cycle.
_SCHEDULERS, WAVEFRONT_BYTES = 4, 128


@dataclass(frozen=True)
class Work:
    """Operations of a kernel, over all of its blocks.

    Attributes
    ----------
    products4, products8 : float
        Multiplications on tensor cores, of 4 and of 8 bits.
    instructions : float
        Instructions of warps, including the products.
    wavefronts : float
        Each moves :data:`WAVEFRONT_BYTES` of shared memory.
    memory_bytes : float
        Read and written once each; caches are not modelled.
    """

    products4: float = 0
    products8: float = 0
    instructions: float = 0
    wavefronts: float = 0
    memory_bytes: float = 0


def times(work: Work, gpu: Gpu) -> dict[str, float]:
    """Microseconds that each resource alone would take, at the boost clock."""
    per_microsecond = gpu.megahertz * gpu.multiprocessors
    return {
        "tensor": work.products4 * 2 / (gpu.int4 * 1e6) + work.products8 * 2 / (gpu.int8 * 1e6),
        "instructions": work.instructions / (_SCHEDULERS * per_microsecond),
        "shared": work.wavefronts / per_microsecond,
        "memory": work.memory_bytes / (gpu.gigabytes * 1e3),
    }


def microseconds(work: Work, gpu: Gpu) -> float:
    """The largest of :func:`times`."""
    return max(times(work, gpu).values())
