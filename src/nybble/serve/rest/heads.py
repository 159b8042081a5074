"""Heads of requests, read before the server takes them, where nothing about them is unusual."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

import httptools

#: Of a request with one of these the usual way has to decide where its body ends, and whether it is sent.
_UNUSUAL = frozenset((b"transfer-encoding", b"expect", b"upgrade"))
#: Heads of so many bytes or less are kept with what was read: a client's requests mostly have the same one.
_KEPT = 1024

#: What a head ends with.
_END = b"\r\n\r\n"
#: Digits of the length of a body, at most.
_DIGITS = 18


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
    end = data.find(_END)
    if end < 0:
        return None
    return _kept(data[:end]) if end <= _KEPT else _read(data[:end])


class _Found:
    """What the parser tells of a head."""

    def __init__(self) -> None:
        self.url = b""
        self.headers: list[tuple[bytes, bytes]] = []

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value.strip(b" \t")))


def _read(head: bytes) -> Head | None:
    found = _Found()
    parser = httptools.HttpRequestParser(found)
    try:
        parser.feed_data(head + _END)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        return None
    names = [name for name, _ in found.headers]
    lengths = [value for name, value in found.headers if name == b"content-length"]
    is_kept = all(value.lower() == b"keep-alive" for name, value in found.headers if name == b"connection")
    if parser.get_http_version() != "1.1" or not is_kept or not _UNUSUAL.isdisjoint(names) or len(lengths) != 1:
        return None
    # Digits alone: int() reads more than that.
    if not lengths[0].isdigit() or len(lengths[0]) > _DIGITS:
        return None
    return Head(found.url, found.headers, len(head) + len(_END), int(lengths[0]))


_kept = functools.lru_cache(maxsize=256)(_read)
