"""Heads of requests, read without a parser where nothing about them is unusual."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, field

#: Of a request with one of these the usual way has to decide where its body ends, and whether it is sent.
_UNUSUAL = frozenset((b"transfer-encoding", b"expect", b"upgrade"))
#: Heads of so many bytes or less are kept with what was read: a client's requests mostly have the same one.
_KEPT = 1024

#: Digits of the length of a body, at most.
_DIGITS = 18

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


@dataclass(frozen=True)
class Head:
    """A request's headers.

    Attributes
    ----------
    url : bytes
    headers : list of tuple of bytes
        Names in small letters, and values.
    size, body : int
        Bytes of head and body.
    fields : dict
        The headers by name, the last one of several.
    """

    url: bytes
    headers: list[tuple[bytes, bytes]]
    size: int
    body: int
    fields: dict[bytes, bytes] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "fields", dict(self.headers))

    def first(self, name: bytes) -> str | None:
        """The value of the first header of a name."""
        return next((value.decode("latin-1") for key, value in self.headers if key == name), None)


def plain_head(data: bytes) -> Head | None:
    """The head of a POST request at the start of some bytes; ``None`` where it is not whole, or not a plain one."""
    if not data.startswith(b"POST "):
        return None
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    return _kept(data[:end]) if end <= _KEPT else _read(data[:end])


def _read(head: bytes) -> Head | None:
    first, *lines = head.split(b"\r\n")
    words = first.split(b" ")
    if len(words) != 3 or words[2] != b"HTTP/1.1":
        return None
    headers, body = [], None
    for line in lines:
        name, colon, value = line.partition(b":")
        name, value = name.lower(), value.strip(b" \t")
        if not colon or not _TOKEN.fullmatch(name) or name in _UNUSUAL or _CONTROL.search(value):
            return None
        if name == b"content-length":
            # Digits alone: int() reads more than that.
            if body is not None or not value.isdigit() or len(value) > _DIGITS:
                return None
            body = int(value)
        elif name == b"connection" and value.lower() != b"keep-alive":
            return None
        headers.append((name, value))
    return None if body is None else Head(words[1], headers, len(head) + 4, body)


_kept = functools.lru_cache(maxsize=256)(_read)
