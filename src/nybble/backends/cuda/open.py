"""Which device an engine runs on."""

from __future__ import annotations

from nybble.backends.cuda.device import Device
from nybble.backends.cuda.emulated import GENERATIONS, EmulatedDevice
from nybble.backends.errors import EngineError

#: The emulated GPU where none is named.
DEFAULT_GENERATION = 80


def open_emulated(isa: str | None) -> Device:
    """An emulated GPU: ``sm_75``, ``sm_80`` or ``sm_90``. Raises :class:`EngineError` on another, or without one."""
    names = {f"sm_{generation}": generation for generation in GENERATIONS}
    if isa is not None and isa not in names:
        raise EngineError(f"isa={isa!r}: the emulated GPU is one of {', '.join(names)}")
    return EmulatedDevice(DEFAULT_GENERATION if isa is None else names[isa])


def open_gpu(isa: str | None) -> Device:
    """Not yet: only the emulated GPU can run networks. Raises :class:`EngineError`."""
    raise EngineError(
        "device='cuda': this version compiles its kernels for GPUs and checks them by emulation, but does not drive a "
        "GPU yet; device='cuda-emulated' runs them on the CPU"
    )
