"""Bodies of requests: within their limits, inflated, and in time."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

from nybble.serve.admission import HeldBytes
from nybble.serve.errors import BadRequestError, ClientGoneError, SlowBodyError, TooLargeError, UnknownMediaError
from nybble.serve.settings import Settings

T = TypeVar("T")

#: zlib's argument for each format: gzip, and the zlib format that HTTP calls deflate.
_INFLATE = {"gzip": 31, "x-gzip": 31, "deflate": 15}


async def read_body(request: Request, settings: Settings, held: HeldBytes) -> bytes:
    """A body, inflated.

    Raises
    ------
    TooLargeError
        Where it is, or becomes, larger than ``max_body``; before it is read where its length is stated.
    BusyError
        Where the bodies under way take all bytes there are.
    SlowBodyError
        Where it takes longer than ``body_timeout`` to arrive.
    ClientGoneError
        Where the client closes its connection.
    UnknownMediaError, BadRequestError
        Where it is encoded in another way, or not in the way stated.
    """
    stated = request.headers.get("content-length", "")
    if stated.isdecimal():
        _check_size(int(stated), settings.max_body)
        held.grow_to(int(stated))
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity" and encoding not in _INFLATE:
        raise UnknownMediaError(f"content-encoding {encoding[:40]!r}: this server reads {', '.join(_INFLATE)}")
    chunks = _chunks(request, settings, held)
    try:
        async with asyncio.timeout(settings.body_timeout):
            if encoding == "identity":
                parts = [chunk async for chunk in chunks]
                return parts[0] if len(parts) == 1 else b"".join(parts)
            return await _inflated(chunks, zlib.decompressobj(_INFLATE[encoding]), settings, held)
    except ClientDisconnect:
        raise ClientGoneError("the client closed its connection") from None
    except TimeoutError:
        raise SlowBodyError(f"the body did not arrive within {settings.body_timeout:g} seconds") from None


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of work, which is cancelled where the client closes its connection; the body has been read before.

    Raises
    ------
    ClientGoneError
        Where the client is gone.
    """
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait((task, watch), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientGoneError("the client closed its connection")
    finally:
        # If this is cancelled, for example by a shutdown, the work is cancelled too.
        task.cancel()
        watch.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _chunks(request: Request, settings: Settings, held: HeldBytes) -> AsyncIterator[bytes]:
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        _check_size(size, settings.max_body)
        held.grow_to(size)
        if chunk:
            yield chunk


async def _inflated(chunks: AsyncIterator[bytes], inflate: Any, settings: Settings, held: HeldBytes) -> bytes:
    parts: list[bytes] = []
    size = 0
    try:
        async for chunk in chunks:
            while chunk:
                # A few bytes may inflate to a thousand times as many, so they are inflated in steps.
                parts.append(inflate.decompress(chunk, 1 << 20))
                size += len(parts[-1])
                _check_size(size, settings.max_body)
                held.grow_to(size)
                chunk = inflate.unconsumed_tail
    except zlib.error:
        raise BadRequestError("the body is not what its content-encoding says") from None
    if not inflate.eof:
        raise BadRequestError("the compressed body ends early")
    return b"".join(parts)


def _check_size(size: int, most: int) -> None:
    if size > most:
        raise TooLargeError(f"a body of {size} bytes or more; this server takes {most} at most")
