"""NVRTC, NVIDIA's compiler as a library: from the kernels' source to machine code, on any machine, without a GPU."""

from __future__ import annotations

import ctypes
import re
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from nybble.backends.cuda.source import ENTRY, source_folder
from nybble.backends.errors import EngineError

#: Folders of the library in the packages of CUDA 13 and 12, below ``nvidia``.
_LIBRARIES = ("cu13/lib/libnvrtc.so.13", "cuda_nvrtc/lib/libnvrtc.so.12")
#: The least compute capability, times 10: the first with 4-bit products.
LEAST_ARCH = 75


@dataclass(frozen=True)
class KernelFacts:
    """The assembler's report on a kernel: registers per thread, bytes that were spilled to memory."""

    name: str
    registers: int
    spilled: int


@dataclass(frozen=True)
class Compiled:
    """Machine code of all kernels for one architecture, and the PTX that it was assembled from."""

    arch: int
    code: bytes
    kernels: tuple[KernelFacts, ...]
    ptx: str


class Nvrtc:
    """The NVRTC library, as installed.

    Attributes
    ----------
    version : tuple of int
        Major and minor.
    """

    def __init__(self, path: Path) -> None:
        # It opens its builtins by name alone, which the loader finds only where they are loaded already.
        self._builtins = [ctypes.CDLL(str(beside)) for beside in path.parent.glob("libnvrtc-builtins.so.*")]
        self._library = ctypes.CDLL(str(path))
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._check(self._library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)))
        self.version = (major.value, minor.value)

    def architectures(self) -> list[int]:
        """Architectures that it can compile for and that have 4-bit products, or bytes in their place: 75, 80, ..."""
        count = ctypes.c_int()
        self._check(self._library.nvrtcGetNumSupportedArchs(ctypes.byref(count)))
        found = (ctypes.c_int * count.value)()
        self._check(self._library.nvrtcGetSupportedArchs(found))
        return [arch for arch in found if arch >= LEAST_ARCH]

    def compile(self, arch: int, folder: Path | None = None) -> Compiled:
        """All kernels, of the source in another folder if one is given.

        Raises :class:`EngineError` with the compiler's first line if it refuses.
        """
        folder = source_folder() if folder is None else folder
        program = ctypes.c_void_p()
        text = (folder / ENTRY).read_bytes()
        self._check(self._library.nvrtcCreateProgram(ctypes.byref(program), text, ENTRY.encode(), 0, None, None))
        options = [
            f"--gpu-architecture=sm_{arch}",
            f"--define-macro=NYBBLE_GPU_ARCH={arch}",
            f"--include-path={folder}",
            "--std=c++20",
            "--ptxas-options=-v",
        ]
        encoded = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
        try:
            failed = self._library.nvrtcCompileProgram(program, len(options), encoded)
            log = self._text(program, "ProgramLog").decode(errors="replace").rstrip("\0")
            if failed:
                raise EngineError(f"NVRTC does not compile the kernels for sm_{arch}: {_first_error(log)}")
            ptx = self._text(program, "PTX").decode().rstrip("\0")
            return Compiled(arch, self._text(program, "CUBIN"), _facts(log), ptx)
        finally:
            self._library.nvrtcDestroyProgram(ctypes.byref(program))

    def _text(self, program: ctypes.c_void_p, what: str) -> bytes:
        size = ctypes.c_size_t()
        self._check(getattr(self._library, f"nvrtcGet{what}Size")(program, ctypes.byref(size)))
        buffer = ctypes.create_string_buffer(size.value)
        self._check(getattr(self._library, f"nvrtcGet{what}")(program, buffer))
        return buffer.raw

    def _check(self, result: int) -> None:
        if result:
            self._library.nvrtcGetErrorString.restype = ctypes.c_char_p
            raise EngineError(f"NVRTC: {self._library.nvrtcGetErrorString(result).decode()}")


@cache
def find_nvrtc() -> Nvrtc:
    """The newest one that is installed. Raises :class:`EngineError` where there is none."""
    spec = find_spec("nvidia")
    for folder in spec.submodule_search_locations or () if spec is not None else ():
        for library in _LIBRARIES:
            if (path := Path(folder) / library).is_file():
                return Nvrtc(path)
    raise EngineError("NVRTC is not installed; pip install 'nybble[cuda12]' or 'nybble[cuda13]' brings it")


def _first_error(log: str) -> str:
    return next((line for line in log.splitlines() if "error" in line), log[:200])


def _facts(log: str) -> tuple[KernelFacts, ...]:
    found = []
    # One entry after the other; functions that are called have lines of their own, without registers.
    for entry in log.split("Compiling entry function '")[1:]:
        registers = re.search(r"Used (\d+) registers", entry)
        spilled = re.findall(r"(\d+) bytes spill (?:stores|loads)", entry.split("Used")[0])
        if registers:
            found.append(KernelFacts(entry.split("'")[0], int(registers[1]), sum(map(int, spilled))))
    return tuple(sorted(found, key=lambda kernel: kernel.name))
