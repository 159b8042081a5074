"""The machine code of inner loops: sums stay in registers, whatever the compiler.

A compiler that runs out of registers stores to the stack within the loop, which no test of results sees and which costs
a third of the speed or more.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from test_native_structure import objects

from nybble import _native

pytestmark = pytest.mark.skipif("NYBBLE_SANITIZED" in os.environ, reason="not under the sanitizers")

NATIVE = Path(__file__).resolve().parents[2] / "native"
OPTIONS = ("-std=c++20", "-O3", "-fPIC", "-ffp-contract=off", "-DNDEBUG", "-DNYBBLE_X86", "-w", f"-I{NATIVE}")
#: By instruction set: the compiler's flags, and pixels whose sums registers hold: of plain products, and of the fast
#: inner product.
BUILT = {
    "avx512vnni": (("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx512vnni", "-mpopcnt"), (8, 8)),
    "avxvnni": (("-mavx2", "-mfma", "-mavxvnni", "-mpopcnt"), (6, 4)),
}
BY_ISA = pytest.mark.parametrize("isa", BUILT)
#: A file with the one kernel.
SOURCE = """
#include "base/cpu.h"
#include "kernels/isas/ISA.h"
namespace nybble {
namespace {
constexpr Isa kIsa = Isa::ISA;
}
}
#include "kernels/conv/HEADER"
namespace nybble {
extern const ConvRow* const kKept;
const ConvRow* const kKept = &ROW;
}
"""


@dataclass(frozen=True)
class Loop:
    """The innermost loop of a kernel, which has two vectors of sums of each pixel."""

    header: str
    row: str
    function: str  # what its symbol matches; PIXELS are those computed together
    products: int  # of a pixel in a turn
    byte_sums: int
    only: str = ""  # the one instruction set that has it

    def pixels(self, isa: str) -> int:
        """Those computed together."""
        return BUILT[isa][1][self.byte_sums > 0]


LOOPS = {
    "inner": Loop("inner.inc.h", "kInnerRow<Vector>", "inner_pixels.*LiPIXELSE", 8, 16),
    "quad": Loop("dot.inc.h", "kQuadRow", "dot_pixels.*QuadDot.*LiPIXELSE", 2, 0),
    "inner, finished": Loop("inner.inc.h", "kInnerRow<Vector>", "inner_finished.*LiPIXELSE", 8, 16, only="avx512vnni"),
    "quad, finished": Loop("dot.inc.h", "kQuadRow", "dot_finished.*QuadDot.*LiPIXELSE", 2, 0, only="avx512vnni"),
    "winograd_quad": Loop("winograd_quad.inc.h", "kWinogradQuadRow", "winograd_quad_products.*LiPIXELSELb0E", 16, 0),
    "winograd_inner": Loop(
        "winograd_quad.inc.h", "kWinogradInnerRow<Vector>", "winograd_quad_products.*LiPIXELSELb1E", 8, 16
    ),
}
BY_LOOP = pytest.mark.parametrize(
    ("isa", "name"), [(isa, name) for isa in BUILT for name, loop in LOOPS.items() if loop.only in ("", isa)]
)

INSTRUCTION = re.compile(r"^\s*([0-9a-f]+):\s+(\S+)\s*(.*?)\s*(?:#.*|<.*)?$")
JUMP = re.compile(r"^j[a-z]+$")
VECTOR = re.compile(r"%[xyz]mm\d+")
#: They read their last operand.
COMPARE = re.compile(r"^(cmp|test|prefetch|push|call)")


@dataclass(frozen=True)
class Instruction:
    address: int
    name: str
    operands: str


def functions(disassembly: str) -> dict[str, list[Instruction]]:
    """Instructions of each function, by its symbol."""
    found: dict[str, list[Instruction]] = {}
    symbol = ""
    for line in disassembly.splitlines():
        if line.endswith(">:"):
            symbol = line.partition("<")[2][:-2]
            found[symbol] = []
        elif (match := INSTRUCTION.match(line)) and symbol:
            found[symbol].append(Instruction(int(match[1], 16), match[2], match[3]))
    return found


def innermost_loops(code: list[Instruction]) -> list[list[Instruction]]:
    """Instructions from the target of each jump backwards to the jump, where no other such loop lies within."""
    ends = [i for i, instruction in enumerate(code) if JUMP.match(instruction.name)]
    places = {instruction.address: i for i, instruction in enumerate(code)}
    spans = []
    for end in ends:
        target = code[end].operands.split()[0] if code[end].operands else ""
        start = places.get(int(target, 16)) if re.fullmatch(r"[0-9a-f]+", target) else None
        if start is not None and start <= end:
            spans.append((start, end))
    inner = [
        span
        for span in spans
        if not any(span != other and span[0] <= other[0] <= other[1] <= span[1] for other in spans)
    ]
    return [code[start : end + 1] for start, end in inner]


def spills(loop: list[Instruction], function: list[Instruction]) -> list[str]:
    """Instructions of a loop that store to the stack, or read vectors from it."""
    # Without a frame rbp is a register as any other.
    has_frame = any(instruction.name == "mov" and instruction.operands == "%rsp,%rbp" for instruction in function)
    on_stack = r"\((?:%rsp|%rbp)[,)]" if has_frame else r"\(%rsp[,)]"
    found = []
    for instruction in loop:
        if not re.search(on_stack, instruction.operands):
            continue
        # In AT&T's order what is written comes last.
        stores = instruction.operands.endswith(")") and not COMPARE.match(instruction.name)
        if stores or VECTOR.search(instruction.operands):
            found.append(f"{instruction.address:x}: {instruction.name} {instruction.operands}")
    return found


def disassembled(path: Path) -> dict[str, list[Instruction]]:
    """Functions of an object file."""
    command = ["objdump", "--disassemble", "--no-show-raw-insn", str(path)]
    return functions(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def is_dot_product(instruction: Instruction) -> bool:
    """In either encoding: ``{vex} vpdpbusd`` too."""
    return "vpdpbusd" in f"{instruction.name} {instruction.operands}"


def check_loop(code: dict[str, list[Instruction]], wanted: Loop, pixels: int) -> None:
    """It is there, once for each form of its sums, and neither stores to the stack nor reads vectors from it."""
    loops = [
        (loop, function)
        for symbol, function in code.items()
        if re.search(wanted.function.replace("PIXELS", str(pixels)), symbol)
        for loop in innermost_loops(function)
        if sum(is_dot_product(instruction) for instruction in loop) == wanted.products * pixels
        and sum(instruction.name == "vpaddb" for instruction in loop) == wanted.byte_sums * pixels
    ]
    assert loops
    found = [spill for loop, function in loops for spill in spills(loop, function)]
    assert not found, "\n".join(found)


@BY_LOOP
def test_sums_stay_in_registers(isa: str, name: str) -> None:
    """As they were built: what surrounds a function may change what a compiler makes of it."""
    if isa not in _native.built_isas():
        pytest.skip("this processor has other instructions")
    found = [path for path in objects() if path.name == f"{isa}.cpp.o" and path.parent.name == "conv"]
    if not found or shutil.which("objdump") is None:
        pytest.skip("no objects of a build in build/, or no binutils")
    for path in found:
        check_loop(disassembled(path), LOOPS[name], LOOPS[name].pixels(isa))


@BY_ISA
def test_sums_of_pixels_are_dot_products(isa: str) -> None:
    """Of plain C++ compilers may make 16-bit products, which cost a fifth of a layer's time (GCC 12, clang)."""
    found = [path for path in objects() if path.name == f"{isa}.cpp.o" and path.parent.name == "conv"]
    if isa not in _native.built_isas() or not found or shutil.which("objdump") is None:
        pytest.skip("no objects of a build in build/, or no binutils")
    for path in found:
        sums = [code for symbol, code in disassembled(path).items() if "inner_pixel_sums" in symbol]
        assert sums
        for code in sums:
            assert any(is_dot_product(instruction) for instruction in code)
            assert not any(instruction.name == "vpmullw" for instruction in code)


@BY_LOOP
def test_they_do_with_clang(isa: str, name: str, tmp_path: Path) -> None:
    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("this processor has other instructions")
    if shutil.which("clang++") is None or shutil.which("objdump") is None:
        pytest.skip("no clang++, or no binutils")
    source, target = tmp_path / "kernel.cpp", tmp_path / "kernel.o"
    flags, wanted = BUILT[isa][0], LOOPS[name]
    source.write_text(SOURCE.replace("ISA", isa).replace("HEADER", wanted.header).replace("ROW", wanted.row))
    # The build makes it.
    (tmp_path / "nybble_isas.h").write_text(f'#define NYBBLE_ISAS(line) line({isa}, "", "", false, true, true)\n')
    subprocess.run(["clang++", *OPTIONS, *flags, f"-I{tmp_path}", "-c", str(source), "-o", str(target)], check=True)
    check_loop(disassembled(target), wanted, wanted.pixels(isa))


def test_a_loop_that_spills_is_seen() -> None:
    """Jumps, spills of sums and of addresses, and what only looks like them."""
    text = """
0000000000000000 <kernel>:
   0:\tmov    %rdi,-0x8(%rsp)
   4:\tvmovdqu64 (%rsi),%zmm0
   8:\tvpdpbusd %zmm1,%zmm2,%zmm3
   c:\t{spill}
  10:\tcmp    %rax,-0x8(%rsp)
  14:\tjne    4 <kernel+0x4>
  18:\tmov    -0x8(%rsp),%rdi
  1c:\tjmp    0 <kernel>
"""
    for spill in ("vmovdqa64 %zmm3,0x40(%rsp)", "vpaddb 0x40(%rsp),%zmm1,%zmm2", "add    %r15,(%rsp)"):
        code = functions(text.format(spill=spill))["kernel"]
        (loop,) = innermost_loops(code)
        assert len(loop) == 5
        assert len(spills(loop, code)) == 1, spill
    for harmless in ("mov    0x40(%rsp),%rdx", "vmovdqu64 %zmm3,(%rdi)", "lea    (%rsp,%rdx,1),%rdi"):
        code = functions(text.format(spill=harmless))["kernel"]
        (loop,) = innermost_loops(code)
        assert not spills(loop, code), harmless
