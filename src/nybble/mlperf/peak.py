"""The highest rate of queries that Server answers within its latency bound."""

from __future__ import annotations

from collections.abc import Callable

from nybble.mlperf.errors import MlperfError

#: The search ends where it knows the rate to this part of it.
PRECISION = 0.03
#: A rate is given up as too high at this part of the engine's throughput.
_LEAST = 0.11


def find_peak(holds: Callable[[float], bool], throughput: float) -> float:
    """Search by halving.

    Parameters
    ----------
    holds : callable
        Whether a run at so many queries a second is valid.
    throughput : float
        Photos a second in full batches, which no rate can exceed for long.

    Returns
    -------
    float
        A rate that holds; one higher by ``PRECISION`` did not, or exceeds the throughput.

    Raises
    ------
    MlperfError
        If none from a tenth of the throughput on holds.
    """
    low, high = 0.0, 1.1 * throughput
    rate = 0.8 * throughput
    while high - low > PRECISION * high:
        if holds(rate):
            low = rate
        else:
            high = rate
            if rate < _LEAST * throughput:
                raise MlperfError(
                    f"no rate keeps the latency bound, not even {rate:.2f} queries a second of the {throughput:.1f} "
                    "that the engine can do: raise Server.target_latency in the user.conf"
                )
        rate = (low + high) / 2 if low else high / 2
    return low
