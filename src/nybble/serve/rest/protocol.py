"""Requests that take uvicorn's way, and those that need not: an overloaded server has little time for each."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from nybble.serve.admission import EXPECTED
from nybble.serve.rest.exchange import Exchange
from nybble.serve.rest.heads import Head, plain_head


class Protocol(HttpToolsProtocol):
    """uvicorn's protocol over httptools, which asks the application before it parses a request and starts a task.

    The application is a :class:`nybble.serve.rest.guard.Guard`.

    - Requests that are refused by their headers are answered at once. The connection is kept, and what follows of the
      body is read and dropped: a client that has to connect again costs more.
    - Plain requests for inference are answered without ASGI, in an :class:`Exchange`.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        # Whether the parser waits for a request, and the bytes to drop before the next one.
        self._is_between = True
        self._dropping = 0
        # uvicorn's own `app` is one of its middlewares.
        self._guard: Any = self.config.app
        self._exchange: Exchange | None = None
        # What came behind the request that is being answered.
        self._behind = b""

    def data_received(self, data: bytes) -> None:
        """Drop what belongs to a refused body, refuse, answer, or go on as uvicorn does."""
        if self._exchange is not None:
            self._continue(self._exchange, data)
            return
        while data:
            if not self._dropping:
                head = self._head(data)
                answer = self._guard.refusal(head) if head and self._guard.is_crowded else None
                if head is None or answer is None:
                    if head is None or not self._begin(head, data):
                        self._go_on(data, head)
                    return
                self.transport.write(answer)
                self._dropping = head.size + head.body
            dropped = min(self._dropping, len(data))
            self._dropping -= dropped
            data = data[dropped:]
            self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """Drop the work for the client."""
        if self._exchange is not None:
            self._exchange.abandon()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Answer the request under way and close, or close at once."""
        if self._exchange is not None:
            self._exchange.is_last = True
        else:
            super().shutdown()

    def on_message_begin(self) -> None:
        """Note that the parser is within a request."""
        self._is_between = False
        super().on_message_begin()

    def on_message_complete(self) -> None:
        """Note that the parser is not."""
        self._is_between = True
        super().on_message_complete()

    def _head(self, data: bytes) -> Head | None:
        """The head of a request that begins here and may be refused or answered without the parser."""
        is_next = self._is_between and (self.cycle is None or self.cycle.response_complete)
        return plain_head(data) if is_next and not self.transport.is_closing() else None

    def _begin(self, head: Head, data: bytes) -> bool:
        """Begin to answer a request past uvicorn, where nothing is wrong with its head; whether that was done."""
        is_whole = len(data) >= head.size + head.body
        exchange: Exchange | None = self._guard.exchange(head, self.client, is_whole)
        if exchange is None:
            return False
        self._unset_keepalive_if_required()
        self._exchange = exchange
        self._continue(exchange, memoryview(data)[head.size :])
        task = self.loop.create_task(self._answer(exchange))
        exchange.task = task
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)
        return True

    def _continue(self, exchange: Exchange, data: bytes | memoryview) -> None:
        """Take what belongs to the body; more is left until the answer is sent."""
        behind = exchange.add(data)
        if behind:
            self._behind += behind
            self.flow.pause_reading()

    async def _answer(self, exchange: Exchange) -> None:
        try:
            answer = await exchange.answer()
            if self.flow.write_paused:
                await self.flow.drain()
        except asyncio.CancelledError:
            # The client is gone, or the server's time to drain is over.
            self.transport.close()
            raise
        finally:
            self._exchange = None
        if self.transport.is_closing():
            return
        fields = b"".join(b"%s: %s\r\n" % field for field in self.server_state.default_headers)
        self.transport.write(answer.to_bytes(fields))
        self.server_state.total_requests += 1
        if answer.closes or exchange.is_last:
            self.transport.close()
            return
        # Of a request that was refused on its way.
        self._dropping = exchange.missing
        self.flow.resume_reading()
        behind, self._behind = self._behind, b""
        if behind:
            self.data_received(behind)
        else:
            self._await_request()

    def _go_on(self, data: bytes, head: Head | None) -> None:
        super().data_received(data)
        if head is None or not self._guard.is_crowded or self.transport.is_closing():
            return
        if len(data) == head.size + head.body:
            # Nothing of it is missing, so it will take its place in a moment, but after the requests of other clients
            # have been looked at. Its task has not begun.
            self.scope["state"][EXPECTED] = self._guard.expect(head.url)

    def _await_request(self) -> None:
        """Give the client its time for the next request, once the body of the last one is there."""
        self._unset_keepalive_if_required()
        if not self._dropping:
            self._start_keep_alive()

    def _start_keep_alive(self) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)
