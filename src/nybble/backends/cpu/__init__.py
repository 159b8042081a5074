"""The native engine as a backend: planned, tuned, with kernels for this processor. Needs the compiled part."""

from nybble.backends.cpu.executable import CpuBackend, CpuExecutable, available_isas

__all__ = ["CpuBackend", "CpuExecutable", "available_isas", "backend"]

backend = CpuBackend()
