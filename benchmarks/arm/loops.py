"""Cycles that llvm-mca expects of the hot loops of the kernels: innermost loops with products, from an object file.

``python benchmarks/arm/loops.py build/cross/aarch64-linux-gnu-g++/cmake``. A model of a processor knows no caches and
no mispredicted branches: it says what the loop costs at best. See docs/arm.md.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

PROCESSORS = ("cortex-a53", "cortex-a72", "neoverse-n1", "neoverse-v1")
FEATURES = "+dotprod,+i8mm"
#: Products of bytes or of 16 bits that one instruction does.
PRODUCTS = (
    (re.compile(r"[su]m(?:ull|lal|lsl)2?\s+v\d+\.8h"), 8),
    (re.compile(r"[su]m(?:ull|lal|lsl)2?\s+v\d+\.4s"), 4),
    (re.compile(r"(?:mla|mls|mul)\s+v\d+\.16b"), 16),
    (re.compile(r"(?:mla|mls|mul)\s+v\d+\.8h"), 8),
    (re.compile(r"(?:us|su|s|u)dot\s"), 16),
    (re.compile(r"(?:us|s|u)mmla\s"), 32),
)
_FUNCTION = re.compile(r"^[0-9a-f]+ <(.*)>:$")
_INSTRUCTION = re.compile(r"^\s*([0-9a-f]+):\s+(\S.*)$")
_JUMP = re.compile(r"^(?:b(?:\.\w+)?|cbn?z|tbn?z)\s+(?:.*,\s*)?([0-9a-f]+) <")


class Loop(NamedTuple):
    """An innermost loop: the function it is in, its instructions, its products."""

    function: str
    code: tuple[str, ...]
    products: int


def loops(listing: str) -> list[Loop]:
    """Innermost loops with products, of what objdump prints."""
    found: list[Loop] = []
    name, code = "", []
    for line in [*listing.splitlines(), "0 <>:"]:
        if start := _FUNCTION.match(line):
            found += _innermost(name, code)
            name, code = start[1], []
        elif instruction := _INSTRUCTION.match(line):
            code.append((int(instruction[1], 16), instruction[2].split("//")[0].strip()))
    return found


def _innermost(function: str, code: list[tuple[int, str]]) -> list[Loop]:
    places = {address: place for place, (address, _) in enumerate(code)}
    spans = set()
    for end, (address, text) in enumerate(code):
        jump = _JUMP.match(text)
        if jump and (target := int(jump[1], 16)) <= address and target in places:
            spans.add((places[target], end))
    inner = [span for span in spans if not any(span != o and span[0] <= o[0] and o[1] <= span[1] for o in spans)]
    result = []
    for start, end in sorted(inner):
        body = tuple(text for _, text in code[start : end + 1])
        products = sum(count for text in body for form, count in PRODUCTS if form.match(text))
        if products:
            result.append(Loop(function, body, products))
    return result


def cycles(mca: str, processor: str, loop: Loop) -> float:
    """Cycles of one turn, of a hundred in a row."""
    # Jumps out of the loop are not taken; the last one goes back.
    lines = [re.sub(r"[0-9a-f]+ <.*>$", "start", text) for text in loop.code]
    command = [mca, "-mtriple=aarch64", f"-mattr={FEATURES}", f"-mcpu={processor}", "-iterations=100"]
    text = "\n".join(["start:", *lines, ""])
    ran = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    total = re.search(r"^Total Cycles:\s+(\d+)$", ran.stdout, re.MULTILINE)
    if total is None:
        raise SystemExit(f"{mca} says nothing of cycles")
    return int(total[1]) / 100


def kernel(function: str) -> str:
    """The name of a function without its namespaces and parameters."""
    return re.sub(r"nybble::|\(anonymous namespace\)::|\(.*|void ", "", function)


def main() -> None:
    """A table of the loops with the most products, for each instruction set."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("build", type=Path, help="the folder of a build for aarch64")
    parser.add_argument("--least", type=int, default=64, help="products of a turn (%(default)s)")
    parser.add_argument("--mca", default=shutil.which("llvm-mca-19") or "llvm-mca", help="(%(default)s)")
    options = parser.parse_args()
    print(f"| isa, function | instructions | products | {' | '.join(PROCESSORS)} |")
    print(f"|{'---|' * (len(PROCESSORS) + 3)}")
    for path in sorted(options.build.rglob("kernels/conv/neon*.o")):
        command = ["aarch64-linux-gnu-objdump", "--disassemble", "--demangle", "--no-show-raw-insn", path]
        listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        for loop in loops(listing):
            # With fewer, most of it is not the loop's: what a compiler moved behind it.
            if loop.products < max(options.least, len(loop.code)):
                continue
            costs = [cycles(options.mca, processor, loop) for processor in PROCESSORS]
            each = [f"{cost:.1f} ({loop.products / cost:.1f})" for cost in costs]
            isa = path.name.partition(".")[0]
            print(f"| {isa}, {kernel(loop.function)} | {len(loop.code)} | {loop.products} | {' | '.join(each)} |")


if __name__ == "__main__":
    main()
