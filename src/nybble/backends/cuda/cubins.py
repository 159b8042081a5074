"""Cubins, kept by what they were compiled from: source, architecture, version of NVRTC."""

from __future__ import annotations

from pathlib import Path

from nybble.backends.cuda.nvrtc import Compiled, Nvrtc, find_nvrtc
from nybble.backends.cuda.source import source_hash
from nybble.backends.errors import EngineError
from nybble.cache import cache_folder
from nybble.files import OWN, caching, write


def cubin_path(arch: int, version: tuple[int, int]) -> Path:
    """Where the cubin of an architecture lies, compiled or not."""
    major, minor = version
    return _folder() / f"{_stem(arch)}{major}.{minor}.cubin"


def cubin_for(arch: int) -> bytes:
    """The cubin for a GPU: kept from before, or compiled now.

    Where the compiler does not know the architecture, that of the nearest earlier one of its major version, which it
    runs too.

    Raises
    ------
    EngineError
        Without NVRTC, if none was kept either, and where it compiles for no architecture that the GPU runs.
    """
    try:
        nvrtc = find_nvrtc()
    except EngineError:
        # Compiled ahead of time, and the compiler is gone.
        kept = sorted(_folder().glob(f"{_stem(arch)}*.cubin"), key=lambda path: path.stat().st_mtime)
        if not kept:
            raise
        return kept[-1].read_bytes()
    able = [known for known in nvrtc.architectures() if known // 10 == arch // 10 and known <= arch]
    if not able:
        version = ".".join(map(str, nvrtc.version))
        raise EngineError(f"NVRTC {version} does not compile for sm_{arch}; a newer one may: nybble[cuda13] brings it")
    path = cubin_path(max(able), nvrtc.version)
    return path.read_bytes() if path.is_file() else compile_cubin(nvrtc, max(able))[1].code


def compile_cubin(nvrtc: Nvrtc, arch: int) -> tuple[Path, Compiled]:
    """Compile all kernels, and keep them. Replaces what lay there in one step."""
    compiled = nvrtc.compile(arch)
    path = cubin_path(arch, nvrtc.version)
    with caching(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, compiled.code, OWN)
    return path, compiled


def _folder() -> Path:
    return cache_folder() / "gpu"


def _stem(arch: int) -> str:
    return f"{source_hash()[:16]}-sm_{arch}-nvrtc"
