"""Runs before the handler of every address: the limit of requests, tokens, pages of other sites, errors, the log."""

from __future__ import annotations

import hmac
import json
import logging
import time
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nybble.serve.errors import BusyError, FailedError, ForbiddenError, RefusedError, UnauthorizedError

#: Addresses that need no token, and answer at any load: a load balancer has none, and the page asks for one.
OPEN = frozenset(("/", "/v2/health/live", "/v2/health/ready"))

_log = logging.getLogger("nybble.serve")
_access = logging.getLogger("nybble.serve.access")


class Guard:
    """An ASGI application around another one, which answers with JSON where a request is refused."""

    def __init__(self, app: ASGIApp, tokens: frozenset[str], log: bool, most: int) -> None:
        self._app = app
        self._tokens = [token.encode() for token in tokens]
        self._log = log
        self._most = most
        self._under_way = 0

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
            self._check(scope)
            await self._app(scope, receive, noting)
        except RefusedError as error:
            await _refuse(noting, error)
        except Exception:
            _log.exception("a request failed", extra={"path": scope["path"]})
            if not status:
                await _refuse(noting, FailedError("the server failed; see its log"))
        finally:
            self._under_way -= 1
            if self._log:
                client = scope["client"] or ("", 0)
                what = {"method": scope["method"], "path": scope["path"], "status": status}
                seconds = round(time.monotonic() - began, 6)
                _access.info("request", extra={**what, "seconds": seconds, "client": client[0]})

    def _check(self, scope: Scope) -> None:
        if self._under_way > self._most and scope["path"] not in OPEN:
            raise BusyError(f"too many requests at a time; this server takes at most {self._most}")
        headers: dict[bytes, bytes] = dict(scope["headers"])
        # A page of another site may send a request from the browser of a user who can reach this server.
        if b"origin" in headers and _host_of(headers[b"origin"]) != headers.get(b"host"):
            raise ForbiddenError("requests of pages of other sites are refused")
        if self._tokens and scope["path"] not in OPEN:
            scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
            matches = [hmac.compare_digest(given.strip(), token) for token in self._tokens]
            if scheme.lower() != b"bearer" or not any(matches):
                raise UnauthorizedError("this server requires a token: header `Authorization: Bearer TOKEN`")


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
