"""The native engine as a backend: planned, tuned, with kernels for this processor. Needs the compiled part."""

from nybble.backends.cpu.executable import CpuBackend, CpuExecutable

__all__ = ["CpuBackend", "CpuExecutable", "backend"]

backend = CpuBackend()
