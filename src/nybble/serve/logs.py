"""The server's log on standard error: lines of text, or of JSON."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import TextIO, TypeAlias

Extra: TypeAlias = Mapping[str, object]
#: Time, level, logger, message, extra and traceback to what is written.
Line: TypeAlias = Callable[[float, str, str, str, Extra, "str | None"], str]

_encode = json.JSONEncoder(default=str).encode

_STANDARD = frozenset(vars(logging.makeLogRecord({})))


class _Handler(logging.StreamHandler[TextIO]):
    """Writes records, and lines of requests."""

    def __init__(self, line: Line) -> None:
        super().__init__(sys.stderr)
        self.line = line

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record; a traceback follows where there is one."""
        trace = logging.Formatter().formatException(record.exc_info) if record.exc_info else None
        level = record.levelname.lower()
        return self.line(record.created, level, record.name, record.getMessage(), _extra(record), trace)

    def write(self, lines: Sequence[str]) -> None:
        """Write lines together."""
        with self.lock or nullcontext():
            try:
                self.stream.write("".join(f"{line}{self.terminator}" for line in lines))
                self.flush()
            except Exception:  # As logging has it: what cannot be logged does not end the server.
                self.handleError(logging.makeLogRecord({"msg": "requests"}))


def start_logging(form: str) -> None:
    """Log nybble's and uvicorn's records as ``text`` or ``json``."""
    handler = _Handler(json_line if form == "json" else text_line)
    for name in ("nybble.serve", "uvicorn", "grpc"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
        logger.setLevel(logging.INFO if name == "nybble.serve" else logging.WARNING)


class AccessLog:
    """The log of requests, which is written once in a turn of the event loop.

    A record of :mod:`logging` for each of them took a quarter of the loop's time (cProfile, 24 clients).
    """

    def __init__(self) -> None:
        self._logger = logging.getLogger("nybble.serve.access")
        self._lines: list[str] = []

    def note(self, message: str, **what: object) -> None:
        """Log a request; called from the loop."""
        handlers = self._logger.parent.handlers if self._logger.parent else []
        if len(handlers) != 1 or not isinstance(handlers[0], _Handler):
            # Somebody else's logging.
            self._logger.info(message, extra=what)
            return
        if not self._lines:
            asyncio.get_running_loop().call_soon(self._write, handlers[0])
        self._lines.append(handlers[0].line(time.time(), "info", self._logger.name, message, what, None))

    def _write(self, handler: _Handler) -> None:
        lines, self._lines = self._lines, []
        handler.write(lines)


def json_line(created: float, level: str, name: str, message: str, extra: Extra, trace: str | None) -> str:
    """One JSON document: time, level, message, and what was given as ``extra``."""
    when = datetime.fromtimestamp(created, UTC).isoformat(timespec="milliseconds")
    entry = {"time": when, "level": level, "logger": name, "message": message, **extra}
    if trace:
        entry["traceback"] = trace
    return _encode(entry)


def text_line(created: float, level: str, name: str, message: str, extra: Extra, trace: str | None) -> str:
    """One line; a traceback follows. Values are shown by ``repr``, so that none of them breaks it."""
    when = datetime.fromtimestamp(created).astimezone().isoformat(timespec="milliseconds")
    line = f"{when} {level} {message}" + "".join(f" {key}={value!r}" for key, value in extra.items())
    return f"{line}\n{trace}" if trace else line


def _extra(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD and name not in _ADDED}


#: What formatters add to a record.
_ADDED = ("message", "asctime", "color_message", "taskName")
