"""Peak rates of GPUs, from the documents of their makers. A GPU that is not listed has no roofline."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Gpu:
    """Peak rates of one GPU, dense, at its boost clock.

    Attributes
    ----------
    names : tuple of str
        As drivers report them, the most common one first.
    arch : int
        Compute capability, times 10.
    multiprocessors : int
    megahertz : int
        Boost clock.
    int8, int4 : float
        Tensor operations per second, in 1e12; a multiplication and an addition count as two.
    gigabytes : float
        Memory bandwidth, in 1e9 bytes per second.
    source : str
        Document that the figures are from.
    """

    names: tuple[str, ...]
    arch: int
    multiprocessors: int
    megahertz: int
    int8: float
    int4: float
    gigabytes: float
    source: str


#: GPUs with 4-bit products. The H100 and H200 have none, so they are not listed.
GPUS = (
    Gpu(
        ("Tesla T4", "NVIDIA T4"), 75, 40, 1590, 130, 260, 320, "NVIDIA T4 data sheet; clock: T4 product brief PB-09256"
    ),
    Gpu(
        ("NVIDIA TITAN RTX", "TITAN RTX"),
        75,
        72,
        1770,
        261,
        522,
        672,
        "NVIDIA Turing white paper WP-09183: the Quadro RTX 6000, which has the same chip and clock",
    ),
    Gpu(
        ("NVIDIA A100-SXM4-40GB", "NVIDIA A100-PCIE-40GB"),
        80,
        108,
        1410,
        624,
        1248,
        1555,
        "NVIDIA A100 white paper (40 GB)",
    ),
    Gpu(("NVIDIA A10",), 86, 72, 1695, 250, 500, 600, "NVIDIA A10 data sheet"),
    Gpu(
        ("NVIDIA GeForce RTX 3090", "GeForce RTX 3090"),
        86,
        82,
        1695,
        284,
        568,
        936,
        "NVIDIA GA102 white paper, appendix A",
    ),
    Gpu(
        ("NVIDIA L4",),
        89,
        58,
        2040,
        242.5,
        485,
        300,
        "NVIDIA L4 data sheet: 8 bits with sparsity, of which this is half; 4 bits are taken to be twice as many",
    ),
    Gpu(
        ("NVIDIA GeForce RTX 4090",),
        89,
        128,
        2520,
        660.6,
        1321.2,
        1008,
        "NVIDIA Ada GPU architecture white paper, appendix A",
    ),
)


def gpu_named(name: str) -> Gpu | None:
    """The entry of a GPU by the name that its driver reports; ``None`` if it is not listed."""
    return next((gpu for gpu in GPUS if name in gpu.names), None)


def least_seconds(gpu: Gpu, macs: int, bits: int, moved: int) -> float:
    """The roofline's time of a step: of its products, or of its memory traffic if that takes longer. Ignores caches."""
    products = 2 * macs / (1e12 * (gpu.int4 if bits == 4 else gpu.int8)) if bits else 0.0
    return max(products, moved / (1e9 * gpu.gigabytes))
