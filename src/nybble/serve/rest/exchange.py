"""A plain request for inference and its answer, without ASGI, which takes as long as all else of such a request."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple

from nybble.serve.admission import Expected
from nybble.serve.description import public_name
from nybble.serve.errors import ClientGoneError, FailedError, RefusedError, SlowBodyError
from nybble.serve.rest.heads import Head
from nybble.serve.rest.infer import JSON_LENGTH, compose, parse_apart
from nybble.serve.service import Service

if TYPE_CHECKING:
    from nybble.serve.rest.direct import Addressed

_log = logging.getLogger("nybble.serve")

_JSON_LENGTH = JSON_LENGTH.encode()


class Reply(NamedTuple):
    """An answer: status, headers and body; whether the connection is closed behind it."""

    status: int
    fields: dict[str, str]
    content: bytes
    closes: bool

    def to_bytes(self, fields: bytes = b"") -> bytes:
        """As it is sent, with more headers, which have been written already."""
        written = _written(self.status, tuple(self.fields.items()), len(self.content), self.closes)
        return b"%s%s\r\n%s" % (written, fields, self.content)


@functools.lru_cache(maxsize=256)
def _written(status: int, fields: tuple[tuple[str, str], ...], length: int, closes: bool) -> bytes:
    """The first line and the headers."""
    more = (("content-length", str(length)), *((("connection", "close"),) if closes else ()))
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *(f"{name}: {value}" for name, value in fields + more)]
    return "".join(f"{line}\r\n" for line in lines).encode("latin-1")


def refusal_reply(error: RefusedError, closes: bool = False) -> Reply:
    """The answer to a request that is refused."""
    fields = error.headers()
    closes = fields.pop("connection", "") == "close" or closes
    content = json.dumps(error.to_json()).encode()
    return Reply(error.status, {"content-type": "application/json"} | fields, content, closes)


class Exchange:
    """A request whose head has been found good, and that has been let in.

    ``ended`` is called once, with the status of the answer and when the request began, by ``time.monotonic``.

    Attributes
    ----------
    is_last : bool
        Whether the connection is closed behind the answer.
    task : Task or None
        That answers it.
    missing : int
        Bytes of the body that have not arrived.
    """

    def __init__(
        self,
        ended: Callable[[int, float], None],
        service: Service,
        asked: Addressed,
        head: Head,
        expected: Expected | None,
    ) -> None:
        self.is_last = False
        self.task: asyncio.Task[None] | None = None
        self._ended = ended
        self._service = service
        self._asked = asked
        self._head = head
        self._expected = expected
        self._body: bytes | memoryview | bytearray = b""
        self.missing = head.body
        self._whole: asyncio.Future[None] | None = None
        self._began = time.monotonic()
        self._has_begun = self._is_abandoned = False

    def add(self, data: bytes | memoryview) -> bytes:
        """Take what belongs to the body, and return what does not."""
        part, behind = data[: self.missing], data[self.missing :]
        if part:
            if not self._body:
                self._body = part
            else:
                # Many small pieces would take more memory than their bytes.
                self._body = self._body if isinstance(self._body, bytearray) else bytearray(self._body)
                self._body += part
            self.missing -= len(part)
            if not self.missing and self._whole is not None and not self._whole.done():
                self._whole.set_result(None)
        return bytes(behind)

    def abandon(self) -> None:
        """Drop the work: the client is gone."""
        self._is_abandoned = True
        if not self._has_begun:
            # Then nothing of the task runs.
            self._leave(ClientGoneError.status)
        if self.task is not None:
            self.task.cancel()

    async def answer(self) -> Reply:
        """The answer. It is counted and logged."""
        self._has_begun, status = True, 0
        try:
            reply = await self._answer()
            status = reply.status
            return reply
        except RefusedError as error:
            status = error.status
            return refusal_reply(error, self.is_last)
        except asyncio.CancelledError:
            if self._is_abandoned:
                status = ClientGoneError.status
            raise
        except Exception:
            status = FailedError.status
            _log.exception("a request failed", extra={"path": self._asked.path})
            return refusal_reply(FailedError("the server failed; see its log"), self.is_last)
        finally:
            self._leave(status)

    def _leave(self, status: int) -> None:
        self._ended(status, self._began)

    async def _answer(self) -> Reply:
        service, asked = self._service, self._asked
        with (
            service.admitted(asked.model, asked.version, "rest", self._expected) as ticket,
            service.bodies.held() as held,
        ):
            held.grow_to(self._head.body)
            if self.missing:
                await self._arrival()
            call = await parse_apart(self._body, self._head.first(_JSON_LENGTH))
            answer = await service.infer(ticket, call)
            content, json_length = compose(ticket.served, public_name(ticket.served, ticket.encoded), call, answer)
        fields = {"content-type": "application/json"}
        if json_length is not None:
            fields = {JSON_LENGTH: str(json_length), "content-type": "application/octet-stream"}
        return Reply(200, fields, content, self.is_last)

    async def _arrival(self) -> None:
        """Wait for the body. Raises :class:`SlowBodyError`."""
        seconds = self._service.settings.body_timeout
        self._whole = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(seconds):
                await self._whole
        except TimeoutError:
            raise SlowBodyError(f"the body did not arrive within {seconds:g} seconds") from None
