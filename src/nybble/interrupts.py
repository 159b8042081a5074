"""Ctrl-C that is never lost, wherever it comes. This module loads nothing heavy: it is there before all others."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

#: Seconds after which an interrupt that was swallowed is tried again.
_AGAIN = 0.01
_noted: list[int] = []


@contextlib.contextmanager
def noted_interrupts() -> Iterator[list[int]]:
    """The signals of Ctrl-C that arrived while the block runs; each is a ``KeyboardInterrupt`` too.

    Libraries turn that into errors of their own, above all while they are imported: the list tells. In a callback of
    the interpreter, where an exception is printed and forgotten, it is tried again. Outside the main thread, and where
    somebody else handles the signal, nothing is done.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield _noted if signal.getsignal(signal.SIGINT) is _note else []
        return
    _noted.clear()
    before = sys.unraisablehook

    def unraisable(found: Any) -> None:
        if isinstance(found.exc_value, KeyboardInterrupt):
            timer = threading.Timer(_AGAIN, os.kill, (os.getpid(), signal.SIGINT))
            timer.daemon = True
            timer.start()
        else:
            before(found)

    signal.signal(signal.SIGINT, _note)
    sys.unraisablehook = unraisable
    try:
        yield _noted
    finally:
        sys.unraisablehook = before
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _note(number: int, _: FrameType | None) -> None:
    _noted.append(number)
    raise KeyboardInterrupt
