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
    """Standard output or standard error cannot be written. Files raise other errors."""

    @property
    def is_broken_pipe(self) -> bool:
        """Whether the reader has closed the pipe; this needs no message."""
        return isinstance(self.__cause__, BrokenPipeError)


class _Watched(io.TextIOWrapper):
    """A standard stream that raises :class:`StreamError`, so that its errors are not taken for those of files."""

    title = ""
    #: The stream that owned the buffer: it would close the buffer when it is collected.
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
    """Make the standard streams usable, even where the caller has closed them.

    Raises
    ------
    CommandError
        If standard output is closed: the next file opened would get its descriptor, and with it what is printed.
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
    """Flush both streams; what cannot be written is dropped, else the interpreter complains about it at exit."""
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
        # The terminal's encoding may lack characters of a file's name.
        errors="backslashreplace" if stream.errors == "strict" else stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
    watched.title, watched.before = title, stream
    return watched


def _occupy(number: int, mode: int) -> None:
    """Keep the descriptor of a closed stream from being given to another file."""
    try:
        os.fstat(number)
    except OSError:
        opened = os.open(os.devnull, mode)
        if opened != number:
            os.dup2(opened, number)
            os.close(opened)
