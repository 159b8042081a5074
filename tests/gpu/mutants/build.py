"""Compiles a changed copy of the kernels with the emulator around it, and drives that as a device."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from mutants import Mutant

NATIVE = Path(__file__).resolve().parents[3] / "native"
HARNESS = Path(__file__).with_name("harness.cpp")
FLAGS = ("-std=c++20", "-O1", "-fPIC", "-w")
#: Kernels that are compiled: enough for every mutant, few enough to compile in a second or two.
KEPT = (
    "NYBBLE_GPU_CONV(u4s4, 64, 64, 32, any, any)",
    "NYBBLE_GPU_CONV(u4s4, 64, 64, 32, any, narrow)",
    "NYBBLE_GPU_CONV(u4s4, 128, 64, 32, one, any)",
    "NYBBLE_GPU_LAYER(input, InputParams, read_input)",
)


class MutantError(RuntimeError):
    """What the emulator found wrong."""


def compiler() -> str | None:
    return os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")


def build(mutant: Mutant | None, generation: int, folder: Path) -> Path:
    """A library of the changed kernels (unchanged: ``None``). Raises AssertionError if the place is not there once."""
    shutil.copytree(NATIVE / "gpu", folder / "gpu")
    kernels = folder / "gpu" / "kernels"
    (kernels / "kernels.h").write_text("\n".join(KEPT) + "\n")
    if mutant is not None:
        text = (kernels / mutant.file).read_text()
        assert text.count(mutant.old) == 1, (mutant.name, text.count(mutant.old))
        (kernels / mutant.file).write_text(text.replace(mutant.old, mutant.new))
    sources = [
        folder / "gpu" / "emulator" / f"{name}.cpp"
        for name in ("block", "fibre", "fragments", "kernels", "memory", "shared")
    ]
    sources += [folder / "gpu" / "emulator" / f"kernels{generation}.cpp", HARNESS]
    library = folder / "mutant.so"
    command = [compiler(), *FLAGS, f"-DNYBBLE_MUTATED={generation}", f"-I{folder}", "-shared", *sources, "-o", library]
    subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True)
    return library


def module(library: Path) -> SimpleNamespace:
    """What ``nybble._gpu_emulator`` has, of a library."""
    native = ctypes.CDLL(str(library))
    native.nybble_error.restype = ctypes.c_char_p
    native.nybble_allocate.restype = ctypes.c_size_t
    size, seed = ctypes.c_size_t, ctypes.c_uint64

    def checked(result: int) -> None:
        if result:
            raise MutantError(native.nybble_error().decode())

    def write(address: int, data: np.ndarray) -> None:
        checked(native.nybble_write(size(address), data.ctypes.data_as(ctypes.c_void_p), size(data.nbytes)))

    def read(address: int, out: np.ndarray) -> None:
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
