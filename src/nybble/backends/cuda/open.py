"""Opens the device that an engine runs on."""

from __future__ import annotations

from nybble.backends.cuda.cubins import cubin_for
from nybble.backends.cuda.device import GENERATIONS, Device
from nybble.backends.cuda.emulated import EmulatedDevice
from nybble.backends.cuda.gpu import GpuDevice
from nybble.backends.errors import EngineError

#: The emulated GPU to use if none is named.
DEFAULT_GENERATION = 80


def open_emulated(isa: str | None) -> Device:
    """An emulated GPU: ``sm_75``, ``sm_80`` or ``sm_90``. Raises :class:`EngineError` on another, or without one."""
    names = {f"sm_{generation}": generation for generation in GENERATIONS}
    if isa is not None and isa not in names:
        raise EngineError(f"isa={isa!r}: the emulated GPU is one of {', '.join(names)}")
    return EmulatedDevice(DEFAULT_GENERATION if isa is None else names[isa])


def open_gpu(isa: str | None) -> Device:
    """The first GPU of this machine.

    Raises
    ------
    EngineError
        If cuda-core, the driver, a GPU or a cubin for it is missing, the GPU is older than 7.5, or ``isa`` is not that
        of the GPU.
    """
    device = GpuDevice(cubin_for)
    if isa not in (None, f"sm_{device.arch}"):
        device.close()
        raise EngineError(f"isa={isa!r}: the GPU is {device.name}; CUDA_VISIBLE_DEVICES chooses among several")
    return device
