"""The server's log on standard error: lines of text, or of JSON."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

_STANDARD = frozenset(vars(logging.makeLogRecord({})))


def start_logging(form: str) -> None:
    """Log nybble's and uvicorn's records as ``text`` or ``json``."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    for name in ("nybble.serve", "uvicorn", "grpc"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
        logger.setLevel(logging.INFO if name == "nybble.serve" else logging.WARNING)


class JsonFormatter(logging.Formatter):
    """One JSON document a record: time, level, message, and what was given as ``extra``."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_extra(record),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


class TextFormatter(logging.Formatter):
    """One line a record; a traceback follows where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """The line. Values are shown by ``repr``, so that none of them breaks it."""
        time = datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="milliseconds")
        extra = "".join(f" {name}={value!r}" for name, value in _extra(record).items())
        line = f"{time} {record.levelname.lower()} {record.getMessage()}{extra}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _extra(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD and name not in _ADDED}


#: What formatters add to a record.
_ADDED = ("message", "asctime", "color_message", "taskName")
