"""Other work on the machine while speeds are measured."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

#: Share of the processor time used by other work above which speeds come with a warning.
DISTURBED = 0.05
#: Least processor time, in seconds, that allows a verdict: the system counts in hundredths of a second, and a rounding
#: error of two of them would look like other work.
_LEAST_SECONDS = 1.0


class Usage(NamedTuple):
    """Processor time so far, in seconds over all CPUs: the total, the busy part, that of other guests, and our own."""

    total: float
    busy: float
    stolen: float
    ours: float


def usage() -> Usage | None:
    """The processor time until now; child processes count once they have ended. ``None`` where it cannot be read."""
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
    """Whether other work, as :func:`disturbance` measures it, was too much for speeds to be meaningful."""
    return taken is not None and sum(taken.values()) > DISTURBED


def warning(taken: Mapping[str, float] | None) -> str | None:
    """The warning that precedes figures measured on a disturbed machine; ``None`` where it was quiet."""
    if taken is None or not is_disturbed(taken):
        return None
    return (
        f"other work used {sum(taken.values()):.0%} of the machine during the measurement; "
        "the speeds are unreliable, measure again on a quiet machine"
    )


class Watch:
    """Measures, from its creation on, how much of the machine other work uses."""

    def __init__(self) -> None:
        self._before = usage()

    def taken(self) -> dict[str, float] | None:
        """As :func:`disturbance`; ``None`` also where too little time has passed to tell."""
        after = usage()
        if self._before is None or after is None or after.total - self._before.total < _LEAST_SECONDS:
            return None
        return disturbance(self._before, after)
