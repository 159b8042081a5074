"""Restricts a peer to an older instruction set, for comparisons that hold on processors without newer ones.

There are two ways: the peer's own environment variables, and a library that replaces the answers of CPUID
(``native/cpu_mask``). The library works for any peer but needs a processor with CPUID faulting.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from nybble import _native
from nybble.bench.isas import features

#: What peers understand by themselves, least first, with the feature of the processor that each level needs. ONNX
#: Runtime has no such setting.
SETTINGS = {
    "ONEDNN_MAX_CPU_ISA": {
        "AVX2": "avx2",
        "AVX2_VNNI": "avx_vnni",
        "AVX512_CORE": "avx512bw",
        "AVX512_CORE_VNNI": "avx512_vnni",
    },
    "ATEN_CPU_CAPABILITY": {"avx2": "avx2", "avx512": "avx512bw"},
}
#: Those whose kernels of eight bits and of float all follow these variables.
_FOLLOW = ("openvino", "torch")
#: Seconds after which trying counts as failed.
_PATIENCE = 60


@dataclass(frozen=True)
class Restriction:
    """How a contestant is restricted to an instruction set.

    Attributes
    ----------
    isa : str
        One of :func:`~nybble.bench.isas.of_peers`.
    environment : mapping of str to str
        Variables of its process.
    cpu_mask : Path or None
        The library that its process loads before anything that asks the processor.
    """

    isa: str
    environment: Mapping[str, str] = field(default_factory=dict)
    cpu_mask: Path | None = None

    def __str__(self) -> str:
        return f"{self.isa}, by " + ("what CPUID tells" if self.cpu_mask else "its own setting")


def restrict(peer: str, isa: str) -> Restriction | None:
    """The restriction of ``peer`` to ``isa`` on this machine; ``None`` if there is no way."""
    mask = _mask() if masks_work() else None
    environment = _environment(isa) if peer in _FOLLOW else {}
    return Restriction(isa, environment, mask) if mask or environment else None


def _environment(isa: str) -> dict[str, str]:
    """The highest level of each setting whose feature an instruction set needs."""
    needs = features(isa)
    return {name: [level for level, need in levels.items() if need in needs][-1] for name, levels in SETTINGS.items()}


@cache
def masks_work() -> bool:
    """Whether instructions can be hidden here: tried in a process of its own."""
    mask = _mask()
    if not mask.is_file():
        return False
    attempt = "import ctypes, sys; sys.exit(ctypes.CDLL(sys.argv[1]).nybble_hide_instructions(b'avx2'))"
    command = [sys.executable, "-c", attempt, str(mask)]
    return subprocess.run(command, timeout=_PATIENCE, capture_output=True, check=False).returncode == 0  # noqa: S603


def _mask() -> Path:
    return Path(_native.__file__).with_name("_cpu_mask.so")
