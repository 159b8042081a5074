"""Makes sure that no Ctrl-C is lost. This module is imported before all others and loads little."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

#: Seconds after which an interrupt that was swallowed or put off is sent again.
_AGAIN = 0.01
#: The file of the frames that import modules.
_IMPORT = "<frozen importlib._bootstrap>"
_noted: list[int] = []


@contextlib.contextmanager
def noted_interrupts() -> Iterator[list[int]]:
    """Collect the interrupts (SIGINT) that arrive while the block runs; each still raises ``KeyboardInterrupt``.

    Libraries may turn a ``KeyboardInterrupt`` into an error of their own; the list shows that it was one. While a
    module is imported the interrupt is put off until the import has ended: C++ code that imports Python modules, such
    as PyTorch's, ends the process on an exception there. In a callback of the interpreter, where exceptions are printed
    and dropped, the interrupt is sent again. Outside the main thread, and where another handler is installed, nothing
    is done.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield _noted if signal.getsignal(signal.SIGINT) is _note else []
        return
    _noted.clear()
    before = sys.unraisablehook

    def unraisable(found: Any) -> None:
        if isinstance(found.exc_value, KeyboardInterrupt):
            _send_again()
        else:
            before(found)

    signal.signal(signal.SIGINT, _note)
    sys.unraisablehook = unraisable
    try:
        yield _noted
    finally:
        sys.unraisablehook = before
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _note(number: int, frame: FrameType | None) -> None:
    _noted.append(number)
    if _is_importing(frame):
        _send_again()
    else:
        raise KeyboardInterrupt


def _is_importing(frame: FrameType | None) -> bool:
    """Whether a frame runs on behalf of an import."""
    while frame is not None:
        if frame.f_code.co_filename == _IMPORT:
            return True
        frame = frame.f_back
    return False


def _send_again() -> None:
    timer = threading.Timer(_AGAIN, os.kill, (os.getpid(), signal.SIGINT))
    timer.daemon = True
    timer.start()
