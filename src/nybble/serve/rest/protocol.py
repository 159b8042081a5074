"""Requests that are refused as soon as their headers are there: an overloaded server has little time for each."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from nybble.serve.admission import EXPECTED

#: Of a request with one of these the usual way has to decide where its body ends, and whether it is sent.
_UNUSUAL = frozenset((b"transfer-encoding", b"expect", b"upgrade", b"connection"))

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")


class Head(NamedTuple):
    """A request's headers: its address, their names in small letters and values, and the bytes of head and body."""

    url: bytes
    headers: list[tuple[bytes, bytes]]
    size: int
    body: int


def plain_head(data: bytes) -> Head | None:
    """The head of a POST request at the start of some bytes; ``None`` where it is not whole, or not a plain one."""
    if not data.startswith(b"POST "):
        return None
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    first, *lines = data[:end].split(b"\r\n")
    words = first.split(b" ")
    if len(words) != 3 or words[2] != b"HTTP/1.1":
        return None
    headers, body = [], b""
    for line in lines:
        name, colon, value = line.partition(b":")
        name = name.lower()
        if not colon or not _TOKEN.fullmatch(name) or name in _UNUSUAL or (name == b"content-length" and body):
            return None
        value = value.strip(b" \t")
        if name == b"content-length":
            body = value
        headers.append((name, value))
    # Digits alone: int() reads more than that.
    return Head(words[1], headers, end + 4, int(body)) if body.isdigit() else None


class Protocol(HttpToolsProtocol):
    """uvicorn's protocol over httptools, which asks the application before it parses a request and starts a task.

    The application is a :class:`nybble.serve.rest.guard.Guard`. The connection is kept, and what follows of the body is
    read and dropped: a client that has to connect again costs more.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        # Whether the parser waits for a request, and the bytes to drop before the next one.
        self._is_between = True
        self._dropping = 0
        # uvicorn's own `app` is one of its middlewares.
        self._guard: Any = self.config.app

    def data_received(self, data: bytes) -> None:
        """Drop what belongs to a refused body, refuse, or go on as uvicorn does."""
        while data:
            if not self._dropping:
                head = self._head(data)
                answer = self._guard.refusal(head.url, head.headers) if head else None
                if head is None or answer is None:
                    self._go_on(data, head)
                    return
                self.transport.write(answer)
                self._dropping = head.size + head.body
            dropped = min(self._dropping, len(data))
            self._dropping -= dropped
            data = data[dropped:]
            self._await_request()

    def on_message_begin(self) -> None:
        """Note that the parser is within a request."""
        self._is_between = False
        super().on_message_begin()

    def on_message_complete(self) -> None:
        """Note that the parser is not."""
        self._is_between = True
        super().on_message_complete()

    def _head(self, data: bytes) -> Head | None:
        """The head of a request that begins here and may have to be refused."""
        is_next = self._is_between and (self.cycle is None or self.cycle.response_complete)
        return plain_head(data) if is_next and self._guard.is_crowded and not self.transport.is_closing() else None

    def _go_on(self, data: bytes, head: Head | None) -> None:
        super().data_received(data)
        if head is not None and len(data) == head.size + head.body and not self.transport.is_closing():
            # Nothing of it is missing, so it will take its place in a moment, but after the requests of other clients
            # have been looked at. Its task has not begun.
            self.scope["state"][EXPECTED] = self._guard.expect(head.url)

    def _await_request(self) -> None:
        """Give the client its time for the next request, once the body of the last one is there."""
        self._unset_keepalive_if_required()
        if not self._dropping:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
