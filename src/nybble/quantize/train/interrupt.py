"""SIGTERM and SIGINT as a request to stop at the next step's end."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from nybble.quantize.errors import QuantizeError


class TrainingInterrupted(QuantizeError):  # noqa: N818 (what happened is not an error)
    """Raised when a signal stopped training; a checkpoint was written and the same call continues from there."""


class StopRequest:
    """Whether a signal arrived."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __bool__(self) -> bool:
        return self.signal is not None


@contextmanager
def stop_on_signal() -> Iterator[StopRequest]:
    """While the block runs, a first SIGTERM or SIGINT is noted; a second one acts as it did before.

    Signals can be handled in the main thread only: elsewhere the block runs without.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    owner = os.getpid()
    signals = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.getsignal(number) for number in signals}

    def note(number: int, frame: FrameType | None) -> None:
        request.signal = number
        signal.signal(number, before[signal.Signals(number)] or signal.SIG_DFL)
        if os.getpid() != owner:  # A forked worker: it has nothing to save.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    for number in signals:
        signal.signal(number, note)
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)
