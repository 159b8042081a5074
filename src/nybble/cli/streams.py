"""Standard streams that are closed, full, or cannot show every character."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import TextIO

from nybble.cli.errors import CommandError


class StreamError(OSError):
    """Standard output or standard error cannot be written; other errors of the system are those of files."""

    @property
    def is_broken_pipe(self) -> bool:
        """Whether the reader has gone, who then wants no message either."""
        return isinstance(self.__cause__, BrokenPipeError)


class _Watched(io.TextIOWrapper):
    """A standard stream whose errors are told from those of files."""

    title = ""
    #: The stream that had the buffer before: it would close the buffer when it goes.
    before: TextIO | None = None

    def write(self, text: str, /) -> int:
        with self._told_apart():
            return super().write(text)

    def flush(self) -> None:
        with self._told_apart():
            super().flush()

    @contextlib.contextmanager
    def _told_apart(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StreamError(f"{self.title} cannot be written: {error.strerror or error}") from error


def prepare_streams() -> None:
    """Make the standard streams usable, whatever the caller has done to them.

    Raises
    ------
    CommandError
        If standard output is closed: the next file opened would get its number, and then what is printed.
    """
    if sys.stdin is None:
        _occupy(0, os.O_RDONLY)
    if sys.stderr is None:
        _occupy(2, os.O_WRONLY)
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
    if sys.stdout is None:
        _occupy(1, os.O_WRONLY)
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
        raise CommandError("standard output is closed; to print nothing, redirect it to /dev/null")
    sys.stdout = _watched(sys.stdout, "standard output")
    sys.stderr = _watched(sys.stderr, "standard error")


def settle_streams() -> None:
    """Write out what is left; what cannot be written is dropped, or the interpreter complains about it at exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _watched(stream: TextIO, title: str) -> TextIO:
    if type(stream) is not io.TextIOWrapper:  # A test's, or one that is watched already.
        return stream
    watched = _Watched(
        stream.buffer,
        encoding=stream.encoding,
        # A file's name may be no text in the terminal's encoding.
        errors="backslashreplace" if stream.errors == "strict" else stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
    watched.title, watched.before = title, stream
    return watched


def _occupy(number: int, mode: int) -> None:
    """Keep the number of a closed stream from becoming that of another file."""
    try:
        os.fstat(number)
    except OSError:
        opened = os.open(os.devnull, mode)
        if opened != number:
            os.dup2(opened, number)
            os.close(opened)
