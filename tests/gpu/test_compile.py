"""The kernels as NVRTC compiles them, without a GPU: instructions, registers, spills. Compiled, not run."""

from __future__ import annotations

import re

import pytest
from compiled import compiled, instructions, needs_nvrtc
from ptx.module import shared_bytes

from nybble.backends.cuda.kernels import STEMS, all_kernels, block_of
from nybble.backends.cuda.nvrtc import find_nvrtc
from nybble.backends.errors import EngineError

needs_nvrtc()
pytestmark = pytest.mark.slow

#: Architectures of which cubins are read, and the matrix instruction of each pair of types.
PRODUCTS = {
    75: {"u4s4": "IMMA.8832.U4.S4", "s4s4": "IMMA.8832.S4.S4", "u8s8": "IMMA.8816.U8.S8", "s8s8": "IMMA.8816.S8.S8"},
    **{
        arch: {
            "u4s4": "IMMA.16864.U4.S4",
            "s4s4": "IMMA.16864.S4.S4",
            "u8s8": "IMMA.16832.U8.S8",
            "s8s8": "IMMA.16832.S8.S8",
        }
        for arch in (80, 86, 89)
    },
    90: {
        "u4s4": "IMMA.16832.U8.S8",
        "s4s4": "IMMA.16832.S8.S8",
        "u8s8": "IMMA.16832.U8.S8",
        "s8s8": "IMMA.16832.S8.S8",
    },
}
ARCH = pytest.mark.parametrize("arch", PRODUCTS)


@ARCH
def test_nothing_spills_and_every_kernel_is_there(arch: int) -> None:
    kernels = compiled(arch).kernels
    names = {kernel.name for kernel in kernels}
    assert {kernel.name for kernel in all_kernels()} <= names
    assert len(names) == len(all_kernels()) + len(STEMS) + 11
    for kernel in kernels:
        assert kernel.spilled == 0, kernel
        # Of 65,536 registers of an SM, a block of 256 threads with 168 of them leaves room for none other.
        assert kernel.registers <= 168, kernel


@ARCH
def test_matrix_instructions_are_those_of_the_types(arch: int) -> None:
    code = instructions(arch)
    types = {kernel.name: kernel.types for kernel in all_kernels()} | {name: name.split("_")[1] for name in STEMS}
    for name, pair in types.items():
        kinds = set(re.findall(r"\bIMMA\.[A-Z0-9.]+[SU]\d\.[SU]\d\b", code[name]))
        assert kinds == {PRODUCTS[arch][pair]}, name


@ARCH
def test_copies_are_asynchronous_from_8_0_on(arch: int) -> None:
    for kernel in all_kernels():
        code = instructions(arch)[kernel.name]
        assert ("LDGSTS" in code) == (arch >= 80), kernel.name
        assert "LDSM" in code, kernel.name


@ARCH
def test_shared_memory_and_registers_leave_room(arch: int) -> None:
    """Limits: 64 KB of shared memory on 7.5, 99 KB on others; 65,536 registers, allocated to warps in units of 256."""
    registers = {kernel.name: kernel.registers for kernel in compiled(arch).kernels}
    assert len(registers) <= 60
    for kernel in all_kernels():
        assert shared_bytes(kernel.name, arch) <= (64 if arch == 75 else 99) * 1024, kernel.name
    for name, used in registers.items():
        block = block_of(name, arch)
        assert block.shared_bytes <= (64 if arch == 75 else 99) * 1024, name
        assert block.threads // 32 * -(-used * 32 // 256) * 256 <= 65536, name


@pytest.mark.parametrize("arch", [100, 120])
def test_later_architectures_compile(arch: int) -> None:
    if arch not in find_nvrtc().architectures():
        pytest.skip(f"this NVRTC does not compile for sm_{arch}")
    kernels = compiled(arch).kernels
    assert {kernel.name for kernel in all_kernels()} <= {kernel.name for kernel in kernels}
    assert all(kernel.spilled == 0 for kernel in kernels)


def test_what_is_no_architecture_is_refused() -> None:
    with pytest.raises(EngineError, match=r"^NVRTC does not compile the kernels for sm_33: "):
        find_nvrtc().compile(33)
