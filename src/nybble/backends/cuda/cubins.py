"""The cache of cubins, by hash of the source, architecture and version of NVRTC."""

from __future__ import annotations

from pathlib import Path

from nybble.backends.cuda.nvrtc import Compiled, Nvrtc, find_nvrtc
from nybble.backends.cuda.source import source_hash
from nybble.backends.errors import EngineError
from nybble.cache import cache_folder
from nybble.files import OWN, caching, write


def cubin_path(arch: int, version: tuple[int, int]) -> Path:
    """Path of the cubin of an architecture, whether it exists or not."""
    major, minor = version
    return _folder() / f"{_stem(arch)}{major}.{minor}.cubin"


def cubin_for(arch: int) -> bytes:
    """The cubin for a GPU, from the cache or compiled now.

    If the compiler does not know the architecture, the result is for the nearest earlier one of the same major version,
    which the GPU can run.

    Raises
    ------
    EngineError
        If NVRTC is missing and the cache has no cubin, or if NVRTC supports no architecture that the GPU can run.
    """
    try:
        nvrtc = find_nvrtc()
    except EngineError:
        # It may have been compiled when NVRTC was installed.
        kept = sorted(_folder().glob(f"{_stem(arch)}*.cubin"), key=lambda path: path.stat().st_mtime)
        if not kept:
            raise
        return kept[-1].read_bytes()
    able = [known for known in nvrtc.architectures() if known // 10 == arch // 10 and known <= arch]
    if not able:
        version = ".".join(map(str, nvrtc.version))
        raise EngineError(
            f"NVRTC {version} does not support sm_{arch}; a newer version may: pip install 'nybble[cuda13]'"
        )
    path = cubin_path(max(able), nvrtc.version)
    return path.read_bytes() if path.is_file() else compile_cubin(nvrtc, max(able))[1].code


def compile_cubin(nvrtc: Nvrtc, arch: int) -> tuple[Path, Compiled]:
    """Compile all kernels and store the cubin. An existing file is replaced atomically."""
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
