"""A server in the test's event loop that listens, and requests byte by byte."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from servers import PATIENCE, SHAPE, Inside, images

from nybble.serve.rest.protocol import Protocol

INFER = "/v2/models/tiny/infer"


@asynccontextmanager
async def listening(server: Inside) -> AsyncIterator[int]:
    """The port of the application behind uvicorn, with our protocol."""
    config = uvicorn.Config(server.app, http=Protocol, lifespan="off", log_config=None, port=0)
    rest = uvicorn.Server(config)
    serving = asyncio.create_task(rest.serve())
    while not rest.started:
        await asyncio.sleep(0.01)
    try:
        yield rest.servers[0].sockets[0].getsockname()[1]
    finally:
        rest.should_exit = True
        await serving


def request(path: str, count: int = 1, **headers: str) -> tuple[bytes, bytes]:
    """Head and body."""
    array = images(count)
    parameters = {"binary_data_size": array.size}
    entry = {"name": "images", "datatype": "UINT8", "shape": [count, *SHAPE], "parameters": parameters}
    text = json.dumps({"inputs": [entry], "parameters": {"binary_data_output": True}}).encode()
    body = text + array.tobytes()
    fields = {"host": "x", "inference-header-content-length": str(len(text)), "content-length": str(len(body))}
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in (fields | headers).items()), "", ""]
    return "\r\n".join(lines).encode(), body


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes, bytes]:
    async with asyncio.timeout(PATIENCE):
        head = await reader.readuntil(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:-2])
        return int(head.split()[1]), head, await reader.readexactly(int(fields["content-length"]))
