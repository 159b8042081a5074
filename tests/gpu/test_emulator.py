"""The emulated GPU: faults are detected, correct kernels pass, and products equal plain sums."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterator

import numpy as np
import pytest

from nybble.backends.cuda.device import GENERATIONS
from nybble.backends.cuda.kernels import all_kernels
from nybble.backends.cuda.structures import PARAMS

_gpu_emulator = pytest.importorskip("nybble._gpu_emulator", reason="this build has no emulated GPU")

#: Each fault and what the emulator says of it.
FAULTS = {
    "no_warp_barrier": "shared memory: race: .* (read and written|written and read)",
    "warp_barrier_for_the_block": "shared memory: race: .* (read and written|written and read)",
    "no_barrier_before_the_next_write": "shared memory: race: .* (read and written|written and read)",
    "two_writers": "shared memory: race: .* written by thread",
    "matrices_without_a_barrier": "shared memory: race: .* a warp",
    "never_written": "shared memory: .* never written",
    "beyond_shared": "shared memory: .* outside the block's memory",
    "off_alignment": "shared memory: .* not aligned",
    "no_wait": "shared memory: .* read while a copy is under way",
    "wait_for_too_few": "shared memory: .* read while a copy is under way",
    "ends_while_copying": "ends while its copies are under way",
    "global_never_written": "global memory: .* never written",
    "beyond_global": "global memory: .* outside every allocation",
    "global_off_alignment": "global memory: .* not aligned",
    "global_two_writers": "global memory: two threads",
    "global_written_and_read": "global memory: a word is written and read",
    "half_a_warp": "wait for others that never come",
    "two_collectives": "do not come to the same collective",
    "half_a_block": "wait for others that never come",
}


@pytest.fixture
def block() -> Iterator[int]:
    """64 uninitialised elements of 16 bytes in device memory."""
    address = _gpu_emulator.allocate(64 * 16)
    yield address
    _gpu_emulator.release(address)


def run(name: str, address: int, seed: int) -> None:
    _gpu_emulator.launch(0, name, 1, 1, struct.pack("Q", address), seed)


@pytest.mark.parametrize("seed", range(5))
def test_what_is_right_passes(block: int, seed: int) -> None:
    run("nothing_wrong", block, seed)
    found = np.empty(64 * 16, np.uint8)
    _gpu_emulator.read(block, found)
    assert found.view(np.uint32).reshape(-1, 4).tolist() == [[1, 2, 3, 4]] * 64


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_is_found_in_any_order(block: int, fault: str, seed: int) -> None:
    with pytest.raises(_gpu_emulator.EmulatorError, match=FAULTS[fault]):
        run(fault, block, seed)


def test_every_fault_is_tested() -> None:
    assert {name for name, *_ in _gpu_emulator.kernels(0)} == FAULTS.keys() | {"nothing_wrong"}


def test_after_a_fault_the_next_launch_is_right() -> None:
    for fault in FAULTS:
        address = _gpu_emulator.allocate(64 * 16)
        with pytest.raises(_gpu_emulator.EmulatorError):
            run(fault, address, 0)
        run("nothing_wrong", address, 0)
        _gpu_emulator.release(address)


def test_released_memory_is_out_of_bounds() -> None:
    address = _gpu_emulator.allocate(10)
    data = np.arange(10, dtype=np.uint8)
    _gpu_emulator.write(address, data)
    _gpu_emulator.release(address)
    with pytest.raises(_gpu_emulator.EmulatorError, match="outside every allocation"):
        _gpu_emulator.read(address, data)
    with pytest.raises(_gpu_emulator.EmulatorError, match="not allocated"):
        _gpu_emulator.release(address)


@pytest.mark.parametrize("generation", GENERATIONS)
def test_python_and_the_kernels_agree_on_names_and_parameters(generation: int) -> None:
    kernels = _gpu_emulator.kernels(generation)
    names = [name for name, *_ in kernels]
    assert sorted(name for name in names if name.startswith(("conv_", "join_"))) == sorted(
        one.name for one in all_kernels()
    )
    assert len(names) <= 60
    for name, nbytes, threads, shared in kernels:
        (params,) = {found for start, found in PARAMS.items() if name.startswith(start)}
        assert ctypes.sizeof(params) == nbytes, name
        assert threads in (128, 256)
        # A block of compute capability 7.5 has 64 KB, of 8.6 and 8.9 99 KB; without asking for more, 48 KB.
        assert shared <= 48 * 1024, name


def test_a_launch_checks_its_arguments() -> None:
    with pytest.raises(_gpu_emulator.EmulatorError, match="no kernels of generation 70"):
        _gpu_emulator.kernels(70)
    with pytest.raises(_gpu_emulator.EmulatorError, match="no kernel nothing of generation 75"):
        _gpu_emulator.launch(75, "nothing", 1, 1, b"", 0)
    with pytest.raises(_gpu_emulator.EmulatorError, match="parameters of another size"):
        _gpu_emulator.launch(75, "layer_pool", 1, 1, b"", 0)
