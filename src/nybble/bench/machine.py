"""What a speed depends on besides the code: the processor, what it can do, and who else is using it."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

#: Instruction sets that decide how fast 4-bit and 8-bit products are; the names of Linux on x86-64 and aarch64.
FLAGS_OF_INTEREST = (
    *("sse4_1", "avx2", "fma", "avx512f", "avx512bw", "avx512vl", "avx512_vbmi", "avx512_vnni", "avx_vnni"),
    *("avx_vnni_int8", "amx_int8", "gfni", "asimd", "asimddp", "i8mm", "sve", "sve2"),
)

#: Part of the processor time in other hands above which speeds come with a warning.
DISTURBED = 0.05
#: The system counts in hundredths of a second: over less processor time than this, two of them look like others' work.
_LEAST_SECONDS = 1.0


def describe() -> dict[str, Any]:
    """The machine as far as it can be asked: a field that this system does not tell is empty."""
    fields = _cpu_fields()
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    return {
        "cpu": fields.get("model name") or platform.processor() or platform.machine(),
        "family_model": "/".join(fields[name] for name in ("cpu family", "model", "stepping") if name in fields),
        "flags": [flag for flag in FLAGS_OF_INTEREST if flag in flags],
        "missing_flags": [flag for flag in ("avx2", "avx512_vnni", "avx_vnni", "amx_int8") if flag not in flags],
        "hypervisor": "hypervisor" in flags,
        "usable_cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "governor": _governor(),
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


class Usage(NamedTuple):
    """Processor time so far, in seconds over all CPUs: of everything, not idle, taken by other guests, and ours."""

    total: float
    busy: float
    stolen: float
    ours: float


def usage() -> Usage | None:
    """The processor time until now; children count once they have ended. ``None`` where it cannot be read."""
    try:
        ticks = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    except (OSError, ValueError):
        return None
    second = os.sysconf("SC_CLK_TCK")
    idle, waiting, stolen = ticks[3], ticks[4], ticks[7]
    busy = sum(ticks) - idle - waiting - stolen
    return Usage(sum(ticks) / second, busy / second, stolen / second, sum(os.times()[:4]))


def disturbance(before: Usage | None, after: Usage | None) -> dict[str, float] | None:
    """Parts of the machine's processor time that other processes used and that other guests of the host took."""
    if before is None or after is None or after.total <= before.total:
        return None
    total = after.total - before.total
    others = after.busy - before.busy - (after.ours - before.ours)
    return {"other_processes": max(0.0, others) / total, "other_guests": (after.stolen - before.stolen) / total}


def is_disturbed(taken: Mapping[str, float] | None) -> bool:
    """Whether others took so much, by :func:`disturbance`, that speeds say little."""
    return taken is not None and sum(taken.values()) > DISTURBED


def warning(taken: Mapping[str, float] | None) -> str | None:
    """The line at the head of figures that were measured on a disturbed machine; ``None`` where it was quiet."""
    if taken is None or not is_disturbed(taken):
        return None
    return (
        f"other work used {sum(taken.values()):.0%} of the machine meanwhile: "
        "these speeds hold for this moment only; measure again when it is quiet"
    )


class Watch:
    """Who else uses the machine from now on."""

    def __init__(self) -> None:
        self._before = usage()

    def taken(self) -> dict[str, float] | None:
        """As :func:`disturbance`; ``None`` also where too little time has passed for the system's clock to tell."""
        after = usage()
        if self._before is None or after is None or after.total - self._before.total < _LEAST_SECONDS:
            return None
        return disturbance(self._before, after)


def _governor() -> str | None:
    """How the clock follows the load; virtual machines rarely tell."""
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
