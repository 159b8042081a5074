"""Runs before the handler of every address: the limit of requests, tokens, pages of other sites, errors, the log."""

from __future__ import annotations

import asyncio
import functools
import hmac
import json
import logging
import time
from collections import Counter
from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nybble.serve.admission import Expected, expected_of
from nybble.serve.errors import BusyError, FailedError, ForbiddenError, RefusedError, UnauthorizedError
from nybble.serve.logs import AccessLog
from nybble.serve.rest.direct import addressed
from nybble.serve.rest.exchange import Exchange, refusal_reply
from nybble.serve.rest.heads import Head
from nybble.serve.service import Service

#: Addresses that need no token and answer at any load: load balancers have no token, and the page asks the user for it.
OPEN = frozenset(("/", "/v2/health/live", "/v2/health/ready"))
#: Seconds after which refusals that came early are logged, in one record for each address.
_SUMMED = 1.0

_log = logging.getLogger("nybble.serve")


class Guard:
    """An ASGI application around another one, which answers with JSON where a request is refused."""

    def __init__(self, app: ASGIApp, tokens: frozenset[str], service: Service) -> None:
        self._app = app
        self._tokens = [token.encode() for token in tokens]
        self._service = service
        self._log = service.settings.access_log
        self._access = AccessLog()
        self._most = service.settings.connections
        self._under_way = 0
        self._refused: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.monotonic(), 0

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self._under_way += 1
        try:
            self._check(scope["path"], dict(scope["headers"]))
            await self._app(scope, receive, noting)
        except RefusedError as error:
            await _refuse(noting, error)
        except Exception:
            _log.exception("a request failed", extra={"path": scope["path"]})
            if not status:
                await _refuse(noting, FailedError("the server failed; see its log"))
        finally:
            self.leave(scope["method"], scope["path"], status, began, scope["client"], expected_of(scope))

    def exchange(self, head: Head, client: tuple[str, int] | None, is_whole: bool) -> Exchange | None:
        """A request for inference that is let in, to be answered without ASGI.

        ``None``: the request goes the usual way, and may be refused there. ``is_whole``: whether the body has arrived.
        """
        asked = addressed(head.url)
        if asked is None or asked.protocol != "rest" or "%" in asked.path or self._under_way >= self._most:
            return None
        service = self._service
        if head.fields.get(b"content-encoding", b"identity") != b"identity" or not service.bodies.takes(head.body):
            return None
        try:
            self._check(asked.path, head.fields)
            places = service.named(asked.model, asked.version)[0].places
        except RefusedError:
            return None
        if head.body > service.settings.max_body or places.is_full:
            return None
        self._under_way += 1
        expected = Expected(places) if is_whole else None
        ended = functools.partial(self.leave, "POST", asked.path, client=client, expected=expected)
        return Exchange(ended, service, asked, head, expected)

    def leave(
        self,
        method: str,
        path: str,
        status: int,
        began: float,
        client: tuple[str, int] | None,
        expected: Expected | None,
    ) -> None:
        """Note that a request has been answered, and log it."""
        self._under_way -= 1
        if expected is not None:
            expected.end()
        if self._log:
            seconds = round(time.monotonic() - began, 6)
            address = client[0] if client else ""
            self._access.note("request", method=method, path=path, status=status, seconds=seconds, client=address)

    @property
    def is_crowded(self) -> bool:
        """Whether the queue of any model may soon be full."""
        return any(served.places.is_crowded for served in self._service.repository.all())

    def expect(self, url: bytes) -> Expected | None:
        """Expect a request to take a place, until it has or ends; ``None`` where it will not."""
        asked = addressed(url)
        try:
            return Expected(self._service.named(asked.model, asked.version)[0].places) if asked else None
        except RefusedError:
            return None

    def refusal(self, head: Head) -> bytes | None:
        """The whole answer to a request with photos for a model whose queue is full.

        ``None``: the request goes the usual way, and may be refused there.
        """
        asked = addressed(head.url)
        if asked is None:
            return None
        try:
            self._check(asked.path, head.fields)
            error = self._service.refusal(asked.model, asked.version, asked.protocol)
        except RefusedError:
            return None
        if error is None:
            return None
        if self._log:
            if not self._refused:
                asyncio.get_running_loop().call_later(_SUMMED, self._log_refused)
            self._refused[asked.path] += 1
        return _whole(error.message, error.seconds)

    def _log_refused(self) -> None:
        for path, requests in self._refused.items():
            self._access.note("requests refused", method="POST", path=path, status=BusyError.status, requests=requests)
        self._refused.clear()

    def _check(self, path: str, headers: Mapping[bytes, bytes]) -> None:
        if self._under_way > self._most and path not in OPEN:
            raise BusyError(f"too many requests at a time; this server takes at most {self._most}")
        # A page of another site may send a request from the browser of a user who can reach this server.
        if b"origin" in headers and _host_of(headers[b"origin"]) != headers.get(b"host"):
            raise ForbiddenError("requests of pages of other sites are refused")
        if self._tokens and path not in OPEN:
            scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
            matches = [hmac.compare_digest(given.strip(), token) for token in self._tokens]
            if scheme.lower() != b"bearer" or not any(matches):
                raise UnauthorizedError("this server requires a token: header `Authorization: Bearer TOKEN`")


@functools.lru_cache(maxsize=64)
def _whole(message: str, seconds: int) -> bytes:
    """A refusal as it is sent. Nearly all of an overload are alike."""
    return refusal_reply(BusyError(message, seconds)).to_bytes()


def _host_of(origin: bytes) -> bytes | None:
    """The host and port of an origin; ``None`` where it has none."""
    try:
        return urlsplit(origin.decode("latin-1")).netloc.encode("latin-1")
    except ValueError:
        return None


async def _refuse(send: Send, error: RefusedError) -> None:
    body = json.dumps(error.to_json()).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body)), **error.headers()}
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
