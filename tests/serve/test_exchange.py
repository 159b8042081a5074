"""Plain requests for inference, which are answered without ASGI, over a socket."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from connections import INFER, answer, listening, request
from servers import PATIENCE, Inside, images, inside

from nybble.engine import Engine
from nybble.serve.rest.exchange import Exchange

Talk = Callable[[Inside, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def talk(model: Path, say: Talk, **settings: Any) -> None:
    """One connection to a server whose gate is open; afterwards nothing may be left of the requests."""

    async def run() -> None:
        async with inside(model, **settings) as server, listening(server) as port:
            server.gate.opened.set()
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.wait_for(say(server, reader, writer), PATIENCE)
            writer.close()
            places = server.service.repository.get("tiny").places
            async with asyncio.timeout(PATIENCE):
                while server.app._under_way or places.taken:
                    await asyncio.sleep(0.01)
            assert (places.expected, server.service.bodies._held) == (0, 0)

    asyncio.run(run())


def logits(said: bytes, content: bytes) -> Any:
    length = int(said.lower().split(b"inference-header-content-length: ")[1].split(b"\r\n")[0])
    assert b"\r\ndate: " in said
    return np.frombuffer(content[length:], "<f4")


@pytest.fixture
def exchanges(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The heads that were answered without ASGI."""
    found: list[str] = []
    before = Exchange.__init__

    def noted(self: Exchange, *arguments: Any) -> None:
        found.append(arguments[3].url.decode())
        before(self, *arguments)

    monkeypatch.setattr(Exchange, "__init__", noted)
    return found


@pytest.mark.parametrize("piece", [1, 100, 5000, 1 << 20])
def test_in_pieces(model: Path, engine: Engine, piece: int, exchanges: list[str]) -> None:
    """The head in one piece, the body in several."""

    async def say(server: Inside, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for fields in ({}, {"connection": "keep-alive"}, {"Content-Encoding": "identity"}):
            head, body = request(INFER, **fields)
            writer.write(head)
            for first in range(0, len(body), piece):
                writer.write(body[first : first + piece])
                if first % 300 < piece:
                    await writer.drain()
                    await asyncio.sleep(0)
            status, said, content = await answer(reader)
            assert status == 200
            assert np.array_equal(logits(said, content), engine(images(1))[0])
        assert len(exchanges) == 3

    talk(model, say)


def test_several_at_once_are_answered_in_order(model: Path, engine: Engine, exchanges: list[str]) -> None:
    """Other requests between them go to uvicorn."""

    async def say(server: Inside, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        one, three = b"".join(request(INFER)), b"".join(request(INFER, 3))
        ready = b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n"
        writer.write(one + three + ready + one + b"".join(request("/v2/models/none/infer")) + three)
        expected = [1, 3, 0, 1, None, 3]
        for count in expected:
            status, said, content = await answer(reader)
            assert status == (404 if count is None else 200)
            if count:
                assert np.array_equal(logits(said, content), engine(images(count)).reshape(-1))
        # What arrives while uvicorn is within a request goes its way, too.
        assert exchanges[:2] == [INFER, INFER]

    talk(model, say)


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"x": "a\x01b"}, 400),
        ({"content-encoding": "br"}, 415),
        ({"origin": "http://y"}, 403),
        ({"inference-header-content-length": "9999999"}, 400),
        ({"inference-header-content-length": "-1"}, 400),
        ({"connection": "close"}, 200),
    ],
)
def test_what_is_wrong_or_unusual(model: Path, fields: dict[str, str], status: int) -> None:
    async def say(server: Inside, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"".join(request(INFER, **fields)))
        assert (await answer(reader))[0] == status

    talk(model, say)


def test_a_wrong_body_leaves_the_connection_open(model: Path, exchanges: list[str]) -> None:
    async def say(server: Inside, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head, body = request(INFER)
        writer.write(head + body.replace(b"UINT8", b"UINT9"))
        status, _, content = await answer(reader)
        assert (status, json.loads(content)["error"]) == (400, "images: datatype 'UINT9' is not UINT8")
        writer.write(head + body)
        assert (await answer(reader))[0] == 200
        assert len(exchanges) == 2

    talk(model, say)


def test_a_slow_body(model: Path, exchanges: list[str]) -> None:
    async def say(server: Inside, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head, body = request(INFER)
        writer.write(head + body[:100])
        status, said, _ = await answer(reader)
        assert (status, b"\r\nconnection: close\r\n" in said) == (408, True)
        assert await reader.read() == b""
        assert len(exchanges) == 1

    talk(model, say, body_timeout=0.1)


@pytest.mark.parametrize("is_whole", [False, True])
def test_a_client_that_goes(
    model: Path, is_whole: bool, exchanges: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "nybble.serve.access")

    async def say(server: Inside, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.gate.opened.clear()
        server.app._log = True
        head, body = request(INFER)
        writer.write(head + (body if is_whole else body[:100]))
        while not exchanges or (is_whole and not server.gate.entered.is_set()):
            await asyncio.sleep(0.01)
        writer.transport.abort()
        while server.app._under_way:
            await asyncio.sleep(0.01)
        server.gate.opened.set()
        assert 'code="CANCELLED",model="tiny"' in server.service.metrics.text().decode()
        assert [record.__dict__["status"] for record in caplog.records if record.message == "request"] == [499]

    talk(model, say)


def test_a_client_that_goes_at_once(model: Path) -> None:
    """Before the task begins."""

    async def say(server: Inside, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head, body = request(INFER)
        for _ in range(50):
            _, other = await asyncio.open_connection(*writer.get_extra_info("peername"))
            other.write(head + body[:10])
            other.transport.abort()
        writer.write(head + body)
        assert (await answer(reader))[0] == 200

    talk(model, say)


def test_too_late(model: Path, exchanges: list[str]) -> None:
    async def say(server: Inside, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.gate.opened.clear()
        writer.write(b"".join(request(INFER)))
        assert (await answer(reader))[0] == 504
        server.gate.opened.set()
        assert len(exchanges) == 1

    talk(model, say, timeout=0.1)


def test_a_failure(model: Path, monkeypatch: pytest.MonkeyPatch, exchanges: list[str]) -> None:
    async def say(server: Inside, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        monkeypatch.setattr(server.service, "infer", None)
        writer.write(b"".join(request(INFER)))
        status, _, content = await answer(reader)
        assert (status, json.loads(content)) == (500, {"error": "the server failed; see its log"})
        monkeypatch.undo()
        writer.write(b"".join(request(INFER)))
        assert (await answer(reader))[0] == 200

    talk(model, say)


def test_a_body_that_is_left_when_a_request_is_refused(model: Path, exchanges: list[str]) -> None:
    """It is dropped, and not taken for the next request."""

    async def say(server: Inside, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head, body = request(INFER)
        served = server.service.repository._served
        writer.write(head + body[:100])
        kept = dict(served)
        admitted = server.service.admitted
        server.service.admitted = lambda *a: served.clear() or admitted(*a)
        assert (await answer(reader))[0] == 404
        served.update(kept)
        server.service.admitted = admitted
        writer.write(body[100:] + head + body)
        assert (await answer(reader))[0] == 200
        assert len(exchanges) == 2

    talk(model, say)


def test_the_end_of_the_server(model: Path, engine: Engine, exchanges: list[str]) -> None:
    """The request under way is answered, and its connection closed."""

    async def run() -> None:
        async with inside(model) as server:
            async with listening(server) as port:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(b"".join(request(INFER)))
                while not server.gate.entered.is_set():
                    await asyncio.sleep(0.01)
                asyncio.get_running_loop().call_later(0.3, server.gate.opened.set)
            status, said, content = await answer(reader)
            assert (status, b"\r\nconnection: close\r\n" in said) == (200, True)
            assert np.array_equal(logits(said, content), engine(images(1))[0])
            assert await reader.read() == b""
            writer.close()

    asyncio.run(run())
