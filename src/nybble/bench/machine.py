"""The machine that a speed depends on: the processor and its features."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

from nybble.bench.isas import has_byte_tiles

#: Instruction sets that decide how fast 4-bit and 8-bit products are; the names of Linux on x86-64 and aarch64.
FLAGS_OF_INTEREST = (
    *("sse4_1", "avx2", "fma", "avx512f", "avx512bw", "avx512vl", "avx512_vbmi", "avx512_vnni", "avx_vnni"),
    *("avx_vnni_int8", "amx_int8", "gfni", "asimd", "asimddp", "i8mm", "sve", "sve2"),
)

#: The remark on a processor with AMX.
BYTE_TILES = "1,024 products of bytes a cycle and core, which four bits cannot reach: use 8 bits on this processor"


def describe() -> dict[str, Any]:
    """The machine as far as the system describes it: a field that this system does not report is empty."""
    fields = _cpu_fields()
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    return {
        "cpu": fields.get("model name") or platform.processor() or platform.machine(),
        "family_model": "/".join(fields[name] for name in ("cpu family", "model", "stepping") if name in fields),
        "flags": [flag for flag in FLAGS_OF_INTEREST if flag in flags],
        "missing_flags": [flag for flag in ("avx2", "avx512_vnni", "avx_vnni", "amx_int8") if flag not in flags],
        "byte_tiles": has_byte_tiles(),
        "hypervisor": "hypervisor" in flags,
        "usable_cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "governor": _governor(),
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def _governor() -> str | None:
    """How the clock follows the load; virtual machines rarely report it."""
    try:
        return Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").read_text().strip()
    except OSError:
        return None


def _cpu_fields() -> dict[str, str]:
    try:
        first = Path("/proc/cpuinfo").read_text().split("\n\n", 1)[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}
