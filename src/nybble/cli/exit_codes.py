"""The meaning of a command's exit code."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """The exit codes of ``nybble``."""

    #: Done.
    DONE = 0
    #: A difference was found, or a check failed (``verify``, ``mlperf compare``, ``mlperf check``, ``mlperf audit``).
    DIFFERENCE = 1
    #: Wrong usage: options or arguments.
    USAGE = 2
    #: Any other error.
    ERROR = 3
    #: Done, but inputs were left out, such as photos that cannot be decoded.
    LEFT_OUT = 4
    #: Interrupted by Ctrl-C.
    INTERRUPTED = 130
