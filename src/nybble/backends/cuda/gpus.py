"""What GPUs can do at most, as NVIDIA states it: for the share of the roofline that a measurement reaches."""

from __future__ import annotations

from typing import NamedTuple


class Gpu(NamedTuple):
    """A model of GPU.

    Attributes
    ----------
    name : str
        What the driver's name of it holds.
    int8, int4 : float
        10**12 operations a second of dense products, two a multiply-accumulate.
    bandwidth : float
        10**9 bytes a second of its memory.
    source : str
    """

    name: str
    int8: float
    int4: float
    bandwidth: float
    source: str


#: Those whose figures NVIDIA has published for 4-bit products, or for 8-bit ones at half the rate.
GPUS = (
    Gpu("Tesla T4", 130, 260, 320, "data sheet of the T4"),
    Gpu("TITAN RTX", 261, 522, 672, "white paper on the Turing architecture"),
    Gpu("A100-SXM4-40GB", 624, 1248, 1555, "data sheet of the A100"),
    Gpu("A100-PCIE-40GB", 624, 1248, 1555, "data sheet of the A100"),
    Gpu("A10", 250, 500, 600, "data sheet of the A10"),
    Gpu("L4", 242, 485, 300, "data sheet of the L4; 4 bits at twice the rate of 8, as the Ada white paper has it"),
    Gpu("RTX 3090", 284, 568, 936, "white paper on the GA102 architecture"),
    Gpu("RTX 4090", 661, 1321, 1008, "white paper on the Ada architecture"),
)


def gpu_named(model: str) -> Gpu | None:
    """The GPU of a driver's name, such as ``NVIDIA A10``; ``None`` for one that is not in the table."""
    words = model.removeprefix("NVIDIA ").removeprefix("GeForce ")
    return next((gpu for gpu in GPUS if words == gpu.name.removeprefix("NVIDIA ") or model == gpu.name), None)


def least_seconds(gpu: Gpu, macs: int, bits: int, moved: int) -> float:
    """A step's time at the least: that of its products, or of its bytes through memory. Caches are ignored."""
    products = 2 * macs / (1e12 * (gpu.int4 if bits == 4 else gpu.int8)) if bits else 0.0
    return max(products, moved / (1e9 * gpu.bandwidth))
