"""Runs that last long enough for a test, however fast or busy the processor is."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from nybble.graph.types import Array


def answers_beside_a_long_run(photos: Array, answers_beside: Callable[[Array], int], wanted: int = 3) -> int:
    """Repeat a test with four times as many photos, three times at most, until it has seen enough answers.

    A run may end before the test that goes on beside it gets to a processor.

    Parameters
    ----------
    photos : array
        (N, C, H, W). Repeated until they are 3,000 for the first call.
    answers_beside : callable
        Returns the number of answers that others got while a run of the photos was under way.
    wanted : int
        So many answers are enough.

    Returns
    -------
    int
        What the last call returned.
    """
    answered = 0
    for times in (1, 4, 16):
        answered = answers_beside(np.tile(photos, (3000 * times // len(photos), 1, 1, 1)))
        if answered >= wanted:
            break
    return answered


def wait_until_it_runs(thread: threading.Thread, seconds: float = 0.02, patience: float = 60.0) -> None:
    """Return once a thread has used ``seconds`` of processor time, or has ended. Reads Linux's ``/proc``.

    Raises
    ------
    TimeoutError
        It has done neither after ``patience`` seconds.
    """
    until = time.monotonic() + patience
    while thread.is_alive():
        try:
            text = Path(f"/proc/self/task/{thread.native_id}/stat").read_text()
        except FileNotFoundError:
            return
        # proc_pid_stat(5): utime and stime are the 14th and 15th field, the name in parentheses is the second.
        ticks = sum(int(field) for field in text.rpartition(")")[2].split()[11:13])
        if ticks / os.sysconf("SC_CLK_TCK") >= seconds:
            return
        if time.monotonic() > until:
            raise TimeoutError(f"The thread has used less than {seconds} s of processor time after {patience} s.")
        time.sleep(0.001)
