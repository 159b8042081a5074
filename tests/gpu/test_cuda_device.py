"""``device="cuda"``: cuda-core on a stand-in for the driver, which runs kernels in the emulator. Needs no GPU."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import nybble
from emulated_gpu import NEEDS_EMULATOR
from nybble.backends.cuda import cubins, gpu, nvrtc
from nybble.backends.cuda.kernels import all_kernels, block_of
from nybble.backends.cuda.nvrtc import Compiled
from nybble.backends.errors import EngineError

SCENARIOS = Path(__file__).parent / "driver" / "scenarios.py"
COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


def has_cuda_core() -> bool:
    try:
        return find_spec("cuda.core") is not None and find_spec("cuda.bindings") is not None
    except ImportError:
        return False


@NEEDS_EMULATOR
@pytest.mark.skipif(not has_cuda_core(), reason="cuda-core is not installed (pip install cuda-core)")
@pytest.mark.skipif(COMPILER is None, reason="there is no C compiler")
@pytest.mark.parametrize("name", ["network", "events", "threads", "dlpack", "lateness", "proof", "refusals", "old"])
def test_on_the_stand_in_for_the_driver(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, SCENARIOS, name, tmp_path, COMPILER], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@NEEDS_EMULATOR
@pytest.mark.parametrize("generation", [75, 80, 90])
def test_blocks_are_those_that_the_kernels_say(generation: int) -> None:
    from nybble import _gpu_emulator

    for name, _, threads, shared in _gpu_emulator.kernels(generation):
        assert block_of(name, generation) == (threads, shared), name
    # More needs to be asked for, kernel by kernel.
    assert max(block_of(kernel.name, generation).shared_bytes for kernel in all_kernels()) <= 48 << 10


def test_without_cuda_core_it_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda", None)
    with pytest.raises(EngineError, match=r"^device='cuda': cuda-core is not installed .*; pip install") as caught:
        gpu.GpuDevice(lambda arch: b"")
    assert "\n" not in str(caught.value)


class FakeNvrtc:
    """Compiles at once, for some architectures."""

    version = (13, 5)

    def __init__(self, *archs: int) -> None:
        self.archs = list(archs)
        self.compiled: list[int] = []

    def architectures(self) -> list[int]:
        return self.archs

    def compile(self, arch: int) -> Compiled:
        self.compiled.append(arch)
        return Compiled(arch, f"cubin {arch}".encode(), (), "")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("NYBBLE_CACHE", str(tmp_path))
    return tmp_path


def test_cubins_are_compiled_once_and_for_the_nearest_architecture(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = FakeNvrtc(75, 80, 86, 90)
    monkeypatch.setattr(cubins, "find_nvrtc", lambda: compiler)
    assert [cubins.cubin_for(arch) for arch in (86, 89, 86)] == [b"cubin 86"] * 3
    assert compiler.compiled == [86]
    with pytest.raises(EngineError, match=r"^NVRTC 13\.5 does not support sm_120; a newer version may"):
        cubins.cubin_for(120)


def test_a_cubin_that_was_kept_needs_no_compiler(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvrtc, "_LIBRARIES", ("nowhere",))
    nvrtc.find_nvrtc.cache_clear()
    with pytest.raises(EngineError, match="NVRTC is not installed"):
        cubins.cubin_for(75)
    cubins.compile_cubin(FakeNvrtc(75), 75)  # type: ignore[arg-type]
    assert cubins.cubin_for(75) == b"cubin 75"
    nvrtc.find_nvrtc.cache_clear()


def test_arrays_of_other_devices_are_refused() -> None:
    class Elsewhere:
        def __dlpack__(self, *, stream: int | None = None) -> object:
            raise AssertionError("nobody takes it")

        def __dlpack_device__(self) -> tuple[int, int]:
            return (2, 0)

    graph = nybble.graph.read_graph(nybble.models.find(None).path)
    with (
        nybble.Engine(graph, device="reference") as engine,
        pytest.raises(ValueError, match="does not take arrays on a GPU"),
    ):
        engine(Elsewhere())
