"""Counts the work of a network's kernels: loop rounds in PTX, instructions in machine code."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ptx.machine import Counts

from nybble.backends.cuda.kernel_time import Work

_INSTRUCTION = re.compile(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+ )?(?P<op>[A-Z][\w.]*)(?P<rest>[^;]*);")
_LABEL = re.compile(r"^(\.L_x_\d+):")
#: Wavefronts of a warp's access: 128 bytes each, where no two lanes meet in a bank, as the swizzle has it.
_WAVEFRONTS = (
    *(("LDSM.16.M88.4", 4), ("LDS.U.128", 4), ("LDS.128", 4), ("LDS", 1), ("STS.128", 4), ("STS", 1)),
    *(("LDGSTS.E.BYPASS.128", 4), ("LDGSTS.E.BYPASS.LTC128B.128", 4)),
)


@dataclass(frozen=True)
class Machine:
    """Machine code of one kernel.

    Attributes
    ----------
    loop : float
        Instructions of the loop over the depth; the mean of two loops; 0: there is none.
    rest : int
        All others, but for what fills the end.
    products, wavefronts : float
        Matrix instructions and wavefronts of shared memory of one round of the loop.
    """

    loop: float
    rest: int
    products: float
    wavefronts: float


def read_machine(text: str) -> Machine:
    """Read the SASS that nvdisasm writes. The loop over the depth is the one that contains matrix instructions.

    Where a kernel computes two convolutions it has two such loops, of which the mean is taken.
    """
    found: list[tuple[str, str]] = []
    labels: dict[str, int] = {}
    for line in text.splitlines():
        label, instruction = _LABEL.match(line), _INSTRUCTION.match(line)
        if label:
            labels[label[1]] = len(found)
        if instruction:
            found.append((instruction["op"], instruction["rest"]))
    while found and found[-1][0] in ("NOP", "BRA"):
        found.pop()
    loops = _loops(found, labels)
    inside = [op for first, last in loops for op, _ in found[first:last]]
    count = max(1, len(loops))
    return Machine(
        len(inside) / count,
        len(found) - len(inside),
        sum(op.startswith("IMMA") for op in inside) / count,
        sum(next((count for start, count in _WAVEFRONTS if op.startswith(start)), 0) for op in inside) / count,
    )


def _loops(found: list[tuple[str, str]], labels: Mapping[str, int]) -> list[tuple[int, int]]:
    loops: list[tuple[int, int]] = []
    for i, (op, rest) in enumerate(found):
        target = re.search(r"\((\.L_x_\d+)\)", rest)
        if op == "BRA" and target and labels.get(target[1], i) < i:
            first, after = labels[target[1]], loops[-1][1] if loops else 0
            if first >= after and any(other.startswith("IMMA") for other, _ in found[first:i]):
                loops.append((first, i + 1))
    return loops


def launch_work(name: str, counts: Counts, machine: Machine, written: int, memory_bytes: float) -> Work:
    """The work of one launch. Instructions outside the loop are those of PTX, scaled to the number in SASS.

    Parameters
    ----------
    written : int
        Instructions of the kernel's PTX outside of the loop.
    """
    bits = int(name.split("_")[1][1]) if name.startswith(("conv_", "join_")) else 8
    # m8n8 over 16 bytes of depth on 7.5.
    products = counts.rounds * machine.products * 64 * (16 * 8 // bits)
    return Work(
        products4=products if bits == 4 else 0,
        products8=products if bits == 8 else 0,
        instructions=counts.rounds * machine.loop + counts.outside * machine.rest / written,
        wavefronts=counts.rounds * machine.wavefronts + counts.wavefronts,
        memory_bytes=memory_bytes,
    )
