"""The highest rate of queries that Server answers within its latency bound."""

from __future__ import annotations

import time
from collections.abc import Callable

from nybble.mlperf.errors import MlperfError

#: The search ends when it knows the rate with this relative precision.
PRECISION = 0.05
#: It ends after this number of seconds at the latest, once the current trial has ended.
SECONDS = 240.0
#: The first rate to try, as a part of the engine's throughput; what a rate that is too high is lowered to while none
#: has held; and the part at which the search is given up.
_FIRST, _LOWER, _LEAST = 0.6, 0.75, 0.11


def find_peak(
    holds: Callable[[float], bool],
    throughput: float,
    seconds: float = SECONDS,
    clock: Callable[[], float] = time.monotonic,
) -> float:
    """Search by halving.

    A rate that failed is tried once more before it counts as too high: a machine that stops for a moment, as virtual
    machines do, makes queries late at any rate.

    Parameters
    ----------
    holds : callable
        Whether a run at so many queries per second is valid.
    throughput : float
        Photos a second in full batches, which no rate can exceed for long.
    seconds : float
        After which no trial is begun.
    clock : callable
        Seconds, from anywhere.

    Returns
    -------
    float
        The highest rate that held; unless time was short, one higher by ``PRECISION`` did not, or exceeds the
        throughput.

    Raises
    ------
    MlperfError
        If none from a tenth of the throughput on holds, or none that there was time for.
    """
    end = clock() + seconds
    low, high = 0.0, 1.1 * throughput
    rate = _FIRST * throughput
    while high - low > PRECISION * high and clock() < end:
        if holds(rate) or (clock() < end and holds(rate)):
            low = rate
        else:
            high = rate
            if rate < _LEAST * throughput:
                break
        rate = (low + high) / 2 if low else _LOWER * high
    if not low:
        raise MlperfError(
            f"no rate keeps the latency bound, not even {high:.2f} queries per second of the {throughput:.1f} "
            "that the engine can do: raise Server.target_latency in the user.conf, or stop other programs"
        )
    return low
