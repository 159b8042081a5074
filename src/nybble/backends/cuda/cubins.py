"""Cubins, kept by what they were compiled from: source, architecture, version of NVRTC."""

from __future__ import annotations

from pathlib import Path

from nybble.backends.cuda.nvrtc import Compiled, Nvrtc
from nybble.backends.cuda.source import source_hash
from nybble.cache import cache_folder
from nybble.files import OWN, caching, write


def cubin_path(arch: int, version: tuple[int, int]) -> Path:
    """Where the cubin of an architecture lies, compiled or not."""
    major, minor = version
    return cache_folder() / "gpu" / f"{source_hash()[:16]}-sm_{arch}-nvrtc{major}.{minor}.cubin"


def compile_cubin(nvrtc: Nvrtc, arch: int) -> tuple[Path, Compiled]:
    """Compile all kernels, and keep them. Replaces what lay there in one step."""
    compiled = nvrtc.compile(arch)
    path = cubin_path(arch, nvrtc.version)
    with caching(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, compiled.code, OWN)
    return path, compiled
