"""The kernels compiled by NVRTC, once for all tests: machine code, PTX, SASS."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from ptx.module import PtxModule

from nybble.backends.cuda import emulated
from nybble.backends.cuda.nvrtc import Compiled, find_nvrtc
from nybble.backends.errors import EngineError


def nvrtc_is_there() -> bool:
    """Whether NVRTC is installed."""
    try:
        find_nvrtc()
    except EngineError:
        return False
    return True


def needs_nvrtc() -> None:
    """Skip the calling module if NVRTC is not installed."""
    if not nvrtc_is_there():
        pytest.skip("NVRTC is not installed (pip install 'nybble[cuda12]')", allow_module_level=True)


@cache
def compiled(arch: int) -> Compiled:
    """The kernels for one architecture. Takes half a minute."""
    return find_nvrtc().compile(arch)


@cache
def ptx_module(arch: int) -> PtxModule:
    """The interpreter of the PTX of an architecture."""
    return PtxModule(compiled(arch).ptx, arch)


@contextmanager
def on_ptx(module: PtxModule) -> Iterator[None]:
    """While this is active, the emulated GPU interprets PTX."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(emulated, "emulator", module.emulator)
        yield


def _nvdisasm(folder: Path) -> str:
    """A copy of nvdisasm, since the package may lack the executable bit."""
    spec = find_spec("nvidia")
    for place in spec.submodule_search_locations or () if spec is not None else ():
        found = Path(place) / "cu13" / "bin" / "nvdisasm"
        if found.is_file():
            copied = folder / "nvdisasm"
            shutil.copy(found, copied)
            copied.chmod(0o755)
            return str(copied)
    found_in_path = shutil.which("nvdisasm")
    if found_in_path is None:
        pytest.skip("nvdisasm is not installed (pip install nvidia-cuda-nvdisasm)")
    return found_in_path


@cache
def instructions(arch: int) -> dict[str, str]:
    """The SASS of each kernel, by name."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        file = folder / f"sm_{arch}.cubin"
        file.write_bytes(compiled(arch).code)
        text = subprocess.run([_nvdisasm(folder), file], capture_output=True, text=True, check=True).stdout
    parts = re.split(r"^\s*\.section\s+\.text\.(\w+),.*$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))
