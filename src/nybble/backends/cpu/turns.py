"""Sets how long a run keeps its threads while runs of other engines wait."""

from __future__ import annotations

from nybble import _native


def limit_turn(seconds: float | None) -> None:
    """Let runs that the calling thread begins pass their threads on after a time, between two steps.

    Parameters
    ----------
    seconds : float or None
        ``None``: the time of all runs, 50 ms.
    """
    _native.set_turn_of_thread(-1 if seconds is None else round(seconds * 1e9))
