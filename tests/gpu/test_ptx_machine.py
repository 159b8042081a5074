"""The interpreter of PTX: divergence, memory, unsupported code; fragments by the formulas of the ISA."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from ptx import collectives
from ptx.errors import PtxError
from ptx.machine import Program
from ptx.memory import GLOBAL, GlobalMemory
from ptx.text import read_kernels

#: Each thread's address in the output, in %rd2; its number in %r1.
START = """
    ld.param.u64 %rd1, [test_param_0];
    mov.u32 %r1, %tid.x;
    mul.wide.s32 %rd3, %r1, 4;
    add.s64 %rd2, %rd1, %rd3;
"""
SHARED = "mov.u64 %rd4, _ZN6nybble3gpu12shared_bytesE; cvt.u32.u64 %r2, %rd4;"


def run(body: str, threads: int = 64, shared: int = 1024) -> list[int]:
    """The signed 32-bit word that each thread stored; 0 if it stored none."""
    text = f"""
.visible .entry test(
    .param .align 8 .b8 test_param_0[8]
)
.maxntid {threads}, 1, 1
{{
    .reg .pred %p<9>; .reg .b32 %r<99>; .reg .b64 %rd<9>;
    {START}{body}
    ret;
}}
"""
    memory = GlobalMemory(1 << 16)
    address = memory.allocate(4 * threads)
    memory.bytes.data[:] = 0
    Program(read_kernels(text)["test"], shared).run((1, 1), struct.pack("Q", address), memory)
    first = address - GLOBAL
    return memory.bytes.data[first : first + 4 * threads].view(np.int32).tolist()  # type: ignore[no-any-return]


def test_threads_part_in_a_loop_and_meet_again() -> None:
    body = """
    mov.u32 %r3, 0; mov.u32 %r4, 0;
    $again:
    setp.ge.s32 %p1, %r4, %r1;
    @%p1 bra $done;
    add.s32 %r4, %r4, 1; add.s32 %r3, %r3, %r4;
    bra.uni $again;
    $done:
    st.global.u32 [%rd2], %r3;
    """
    assert run(body) == [i * (i + 1) // 2 for i in range(64)]


def test_a_barrier_waits_for_threads_that_took_another_way() -> None:
    body = f"""
    {SHARED} shl.b32 %r3, %r1, 4; add.s32 %r4, %r2, %r3; xor.b32 %r5, %r3, 512; add.s32 %r5, %r2, %r5;
    setp.lt.s32 %p1, %r1, 32;
    @!%p1 bra $other;
    st.shared.v4.u32 [%r4], {{%r1, %r1, %r1, %r1}};
    bra.uni $meet;
    $other:
    neg.s32 %r6, %r1;
    st.shared.v4.u32 [%r4], {{%r6, %r6, %r6, %r6}};
    $meet:
    bar.sync 0;
    ld.shared.v2.u32 {{%r7, %r8}}, [%r5+8];
    st.global.u32 [%rd2], %r8;
    """
    assert run(body) == [-(i + 32) for i in range(32)] + list(range(32))


@pytest.mark.parametrize(
    ("instruction", "expected"),
    [
        ("shl.b32 %r3, -1, 31;", -(1 << 31)),
        ("shl.b32 %r3, -1, 32;", 0),
        ("shr.s32 %r3, -5, 40;", -1),
        ("shr.u32 %r3, -5, 32;", 0),
        ("div.s32 %r3, -7, 2;", -3),
        ("rem.s32 %r3, -7, 2;", -1),
        ("mad.lo.s32 %r3, 65536, 65536, -3;", -3),
        ("max.s32 %r3, -7, 2;", 2),
        ("mov.u32 %r4, 0x80; cvt.s32.s8 %r3, %r4;", -128),
        ("bfi.b32 %r3, 0x1ff, 0x12345678, 8, 8;", 0x1234FF78),
        ("bfi.b32 %r3, -1, 5, 28, 8;", -(1 << 28) + 5),
        ("bfi.b32 %r3, -1, 7, 4, 0;", 7),
        ("prmt.b32 %r3, 0x44332211, 0x7f665585, 0xC053;", 0xFF115544),
        ("cvt.pack.sat.u4.s32.b32 %r3, 99, -1, 0x12;", 0x12F0),
        ("cvt.pack.sat.s4.s32.b32 %r3, -99, 7, 0x12;", 0x1287),
        ("setp.lt.s32 %p1, -1, 0; selp.b32 %r3, 5, 6, %p1;", 5),
        ("mul.wide.s32 %rd5, -2, 3; shr.s64 %rd5, %rd5, 33; cvt.u32.u64 %r3, %rd5;", -1),
    ],
)
def test_values(instruction: str, expected: int) -> None:
    found = run(f"{instruction} st.global.u32 [%rd2], %r3;")
    assert set(found) == {(expected + (1 << 31)) % (1 << 32) - (1 << 31)}


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("popc.b32 %r3, %r1;", "popc.b32 is not supported"),
        ("@%p1 add.s32 %r3, %r1, 1;", "a predicate on other than a branch"),
        ("st.global.u32 [%rd2+256], %r1;", "global memory: an access outside every allocation"),
        ("st.global.u32 [%rd2+-4], %r1;", "global memory: an access outside every allocation"),
        ("st.global.u32 [%rd2+2], %r1;", "global memory: an access of 4 bytes is not aligned"),
        ("ld.param.u32 %r3, [test_param_0+8];", "parameters: an access outside of them"),
        (f"{SHARED} ld.shared.u32 %r3, [%r2+1024];", "shared memory: an access outside the block's memory"),
        (f"{SHARED} ld.shared.u32 %r3, [%r2+-4];", "shared memory: an access outside the block's memory"),
        ("div.s32 %r3, %r1, %r1;", "a division by zero"),
        (
            f"{SHARED} setp.lt.s32 %p1, %r1, 40; @%p1 bra $x; "
            "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r3, %r4, %r5, %r6}, [%r2]; $x:",
            "lanes of a warp do not come to it together",
        ),
        ("setp.lt.s32 %p1, %r1, 40; @%p1 bra $x; bar.sync 0; ret; $x: bar.sync 0;", "wait at different barriers"),
        (
            f"{SHARED} cp.async.cg.shared.global [%r2], [%rd1], 16, 16; cp.async.commit_group;",
            "ends while copies are under way",
        ),
    ],
)
def test_what_is_refused(body: str, why: str) -> None:
    with pytest.raises(PtxError, match=why):
        run(body)


def test_copies_land_when_they_are_waited_for() -> None:
    body = f"""
    {SHARED} mov.u32 %r3, 7; st.shared.v4.u32 [%r2], {{%r3, %r3, %r3, %r3}};
    cp.async.cg.shared.global [%r2], [%rd1], 16, 0; cp.async.commit_group;
    ld.shared.u32 %r4, [%r2];
    cp.async.wait_group 0;
    ld.shared.u32 %r5, [%r2]; mad.lo.s32 %r6, %r5, 100, %r4;
    st.global.u32 [%rd2], %r6;
    """
    assert set(run(body)) == {7}


@pytest.mark.parametrize(("rows", "bits"), [(8, 4), (8, 8), (16, 4), (16, 8)])
@pytest.mark.parametrize("sign", ["u", "s"])
def test_fragments_are_those_of_the_isa(rows: int, bits: int, sign: str) -> None:
    """Two warps; the formulas of "Matrix Fragments for mma", element by element."""
    random = np.random.default_rng(rows * bits)
    per_register = 32 // bits
    depth = per_register * 4 * (rows // 8)
    low = -(1 << bits - 1) if sign == "s" else 0
    a = random.integers(low, low + (1 << bits), (2, rows, depth))
    b = random.integers(-(1 << bits - 1), 1 << bits - 1, (2, depth, 8))
    c = random.integers(-(1 << 31), 1 << 31, (2, rows, 8))
    registers_a = np.zeros((rows // 8 * (depth // (4 * per_register)), 64), np.uint64)
    registers_b = np.zeros((depth // (4 * per_register), 64), np.uint64)
    for warp in range(2):
        for lane in range(32):
            group, in_group = lane >> 2, lane % 4
            for register in range(len(registers_a)):
                row = group + (8 if register % 2 and rows == 16 else 0)
                column = in_group * per_register + (4 * per_register if register >= 2 else 0)
                for i in range(per_register):
                    code = int(a[warp, row, column + i]) & ((1 << bits) - 1)
                    registers_a[register, warp * 32 + lane] |= np.uint64(code << bits * i)
            for register in range(len(registers_b)):
                for i in range(per_register):
                    row = in_group * per_register + i + 4 * per_register * register
                    code = int(b[warp, row, group]) & ((1 << bits) - 1)
                    registers_b[register, warp * 32 + lane] |= np.uint64(code << bits * i)
    sums = a @ b + c
    lanes = np.arange(64)

    def spread(matrix: np.ndarray) -> list[np.ndarray]:
        return [
            matrix[lanes // 32, lanes % 32 // 4 + 8 * (i // 2), lanes % 4 * 2 + i % 2]
            .astype(np.uint64)
            .astype(np.uint32)
            for i in range(rows // 4)
        ]

    found = collectives.multiply(
        list(registers_a.astype(np.uint32)),
        list(registers_b.astype(np.uint32)),
        spread(c),
        (f"{sign}{bits}", f"s{bits}"),
    )
    for one, other in zip(found, spread(sums), strict=True):
        np.testing.assert_array_equal(one, other)
