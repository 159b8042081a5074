"""Compiles a changed copy of the kernels, for the emulator or by NVRTC, as the module that the emulated GPU drives."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

from ptx.module import PtxModule

from mutants.changes import Mutant
from nybble.backends.cuda.nvrtc import find_nvrtc
from nybble.graph.types import Array

NATIVE = Path(__file__).resolve().parents[3] / "native"
HARNESS = Path(__file__).with_name("harness.cpp")
FLAGS = ("-std=c++20", "-O1", "-fPIC", "-w")
_EMULATOR = ("block", "fibre", "fragments", "kernels", "memory", "shared")


class MutantError(RuntimeError):
    """What the emulator found wrong."""


def compiler() -> str | None:
    return os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")


def _run(*command: object) -> None:
    subprocess.run([str(compiler()), *map(str, command)], check=True, capture_output=True, text=True)


def emulator_objects(folder: Path) -> list[Path]:
    """The emulator and the harness around it: what no mutant changes."""
    sources = [NATIVE / "gpu" / "emulator" / f"{name}.cpp" for name in _EMULATOR]
    found = []
    for source in (*sources, HARNESS):
        found.append(folder / f"{source.stem}.o")
        _run(*FLAGS, f"-I{NATIVE}", "-c", source, "-o", found[-1])
    return found


def changed_source(mutant: Mutant | None, kernels: Sequence[str], folder: Path) -> None:
    """Copy the source with one change (``None``: none) and few kernels. The changed place must be there once."""
    shutil.copytree(NATIVE / "gpu", folder / "gpu")
    place = folder / "gpu" / "kernels"
    (place / "kernels.h").write_text("\n".join(kernels) + "\n")
    if mutant is not None:
        text = (place / mutant.file).read_text()
        assert text.count(mutant.old) == 1, (mutant.name, text.count(mutant.old))
        (place / mutant.file).write_text(text.replace(mutant.old, mutant.new))


def emulated_source(generation: int, folder: Path, objects: Sequence[Path]) -> SimpleNamespace:
    """The changed source in the emulator."""
    kernels, library = folder / "kernels.o", folder / "mutant.so"
    _run(*FLAGS, f"-I{folder}", "-c", folder / "gpu" / "emulator" / f"kernels{generation}.cpp", "-o", kernels)
    _run("-shared", *objects, kernels, "-o", library)
    return _module(library)


def interpreted_source(generation: int, folder: Path) -> SimpleNamespace:
    """The changed source as PTX."""
    return PtxModule(find_nvrtc().compile(generation, folder).ptx, generation).emulator()


def _module(library: Path) -> SimpleNamespace:
    """What ``nybble._gpu_emulator`` has, of a library."""
    native = ctypes.CDLL(str(library))
    native.nybble_error.restype = ctypes.c_char_p
    native.nybble_allocate.restype = ctypes.c_size_t
    size, seed = ctypes.c_size_t, ctypes.c_uint64

    def checked(result: int) -> None:
        if result:
            raise MutantError(native.nybble_error().decode())

    def write(address: int, data: Array) -> None:
        checked(native.nybble_write(size(address), data.ctypes.data_as(ctypes.c_void_p), size(data.nbytes)))

    def read(address: int, out: Array) -> None:
        checked(native.nybble_read(out.ctypes.data_as(ctypes.c_void_p), size(address), size(out.nbytes)))

    def launch(generation: int, name: str, x: int, y: int, params: bytes, drawn: int) -> None:
        checked(native.nybble_launch(generation, name.encode(), x, y, params, size(len(params)), seed(drawn)))

    return SimpleNamespace(
        allocate=lambda nbytes: native.nybble_allocate(size(nbytes)),
        release=lambda address: checked(native.nybble_release(size(address))),
        write=write,
        read=read,
        launch=launch,
    )
