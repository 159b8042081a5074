"""Requests that are refused by their headers, over a socket."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from connections import INFER, answer, listening, request
from hypothesis import given
from servers import images, inside, photo

from nybble.engine import Engine
from nybble.serve.admission import Expected, Places
from nybble.serve.rest.direct import addressed
from nybble.serve.rest.heads import plain_head

NAMES = st.text("abcXYZ-", min_size=1, max_size=8).filter(lambda name: name.lower() not in ("expect", "upgrade"))
VALUES = st.text("abc :;=/", max_size=9)


@given(
    st.text("abc/?=&%1", max_size=20),
    st.lists(st.tuples(NAMES, VALUES), max_size=5),
    st.integers(0, 10**9),
    st.integers(0, 5),
    st.binary(max_size=40),
)
def test_a_plain_head(address: str, fields: list[tuple[str, str]], body: int, place: int, behind: bytes) -> None:
    """What was put in is found; a part of it is not taken for the whole."""
    fields = [*fields[:place], ("Content-Length", str(body)), *fields[place:]]
    lines = [f"POST /{address} HTTP/1.1", *(f"{name}: {value}" for name, value in fields), "", ""]
    whole = "\r\n".join(lines).encode()
    found = plain_head(whole + behind)
    assert found is not None
    assert (found.url, found.size, found.body) == (f"/{address}".encode(), len(whole), body)
    assert found.headers == [(name.lower().encode(), value.strip(" \t").encode()) for name, value in fields]
    assert all(plain_head(whole[:end]) is None for end in range(len(whole)))


@pytest.mark.parametrize(
    "head",
    [
        "GET / HTTP/1.1\r\ncontent-length: 3",
        "POST / HTTP/1.0\r\ncontent-length: 3",
        "POST /a b HTTP/1.1\r\ncontent-length: 3",
        "POST / HTTP/1.1\r\nhost: x",
        "POST / HTTP/1.1\r\ncontent-length: +3",
        "POST / HTTP/1.1\r\ncontent-length: 3\r\ncontent-length: 4",
        "POST / HTTP/1.1\r\ncontent-length: 3\r\nTransfer-Encoding: chunked",
        "POST / HTTP/1.1\r\ncontent-length: 3\r\nexpect: 100-continue",
        "POST / HTTP/1.1\r\ncontent-length: 3\r\nconnection: close",
        "POST / HTTP/1.1\r\ncontent-length: 3\r\nno colon",
        "POST / HTTP/1.1\r\ncontent-length: 3\r\n folded: 1",
        "POST / HTTP/1.1\r\ncontent-length : 3",
        "POST / HTTP/1.1\r\ncontent-length: 3\r\nx: a\0b",
        "POST / HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket\r\ncontent-length: 0",
        "POST / HTTP/1.1\r\nupgrade: websocket\r\ncontent-length: 3",
    ],
)
def test_what_is_left_to_uvicorn(head: str) -> None:
    assert plain_head(f"{head}\r\n\r\n".encode()) is None


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("/v2/models/a/infer", ("a", "", "rest", "/v2/models/a/infer")),
        ("/v2/models/a.photos/versions/3/infer?x=1", ("a.photos", "3", "rest", "/v2/models/a.photos/versions/3/infer")),
        ("/v1/classify", ("", "", "classify", "/v1/classify")),
        ("/v1/classify?top=3&model=a", ("a.photos", "", "classify", "/v1/classify")),
        ("/v1/predict?model=a.photos", ("a.photos", "", "predict", "/v1/predict")),
        ("/v1/classify?model=%61", None),
        ("/v2/models/a/stats", None),
        ("/", None),
    ],
)
def test_addresses_that_take_photos(url: str, expected: Any) -> None:
    assert addressed(url.encode()) == expected


def test_what_is_expected_takes_a_place_until_it_ends() -> None:
    places = Places(2)
    first, second = Expected(places), Expected(places)
    assert places.is_full
    first.end()
    first.end()
    assert (places.expected, places.is_full) == (1, False)
    second.end()
    assert places.expected == 0


@pytest.mark.parametrize("piece", [1, 7, 1000, 1 << 20])
def test_refused_by_its_headers(model: Path, engine: Engine, piece: int, caplog: pytest.LogCaptureFixture) -> None:
    """The connection goes on after the body, which arrives in pieces; sums are logged, every request is counted."""
    caplog.set_level(logging.INFO, "nybble.serve.access")

    async def run() -> None:
        async with inside(model, queue=1) as server, listening(server) as port:
            places = server.service.repository.get("tiny").places
            head, body = request(INFER)
            holder, holding = await asyncio.open_connection("127.0.0.1", port)
            holding.write(head + body)
            while not places.taken:
                await asyncio.sleep(0.01)

            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for path in (INFER, "/v1/classify", "/v1/classify?model=tiny", INFER):
                start, _ = request(path)
                writer.write(start)
                # Before the body is sent.
                status, said, content = await answer(reader)
                assert (status, json.loads(content)["error"][:17]) == (503, "the queue is full")
                assert b"\r\nretry-after: 1\r\n" in said
                for first in range(0, len(body), max(piece, 500)):
                    writer.write(body[first : first + max(piece, 500)])
                    await asyncio.sleep(0)
            # Several at once, and one in pieces of its head, which goes the usual way.
            writer.write(2 * (head + body))
            assert [(await answer(reader))[0] for _ in range(2)] == [503, 503]
            for first in range(0, len(head), piece):
                writer.write(head[first : first + piece])
                await writer.drain()
            assert (await answer(reader))[0] == 503
            writer.write(body)

            server.gate.opened.set()
            assert (await answer(holder))[0] == 200
            writer.write(head + body)
            status, said, content = await answer(reader)
            length = int(said.lower().split(b"inference-header-content-length: ")[1].split(b"\r\n")[0])
            assert status == 200
            assert np.array_equal(np.frombuffer(content[length:], "<f4"), engine(images(1))[0])
            assert (places.taken, places.expected) == (0, 0)
            text = server.service.metrics.text().decode()
            assert 'nybble_requests_total{code="UNAVAILABLE",model="tiny",protocol="rest"} 5.0' in text
            assert 'nybble_requests_total{code="UNAVAILABLE",model="tiny.photos",protocol="classify"} 2.0' in text
            writer.close()
            holding.close()

    asyncio.run(run())


def test_tokens_and_other_sites_come_first(model: Path) -> None:
    async def run() -> None:
        async with inside(model, frozenset(("secret",)), queue=1) as server, listening(server) as port:
            head, body = request(INFER, authorization="Bearer secret")
            holder, holding = await asyncio.open_connection("127.0.0.1", port)
            holding.write(head + body)
            while not server.service.repository.get("tiny").places.taken:
                await asyncio.sleep(0.01)
            for expected, fields in (
                (401, {}),
                (403, {"origin": "http://y", "authorization": "Bearer secret"}),
                (503, {"authorization": "Bearer secret"}),
            ):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(b"".join(request(INFER, **fields)))
                assert (await answer(reader))[0] == expected
                writer.close()
            server.gate.opened.set()
            assert (await answer(holder))[0] == 200
            holding.close()

    asyncio.run(run())


def test_many_at_once_are_let_in_up_to_the_queue(model: Path) -> None:
    """Those that have arrived whole are reckoned with before they take their places; what fails gives them back."""

    async def run() -> None:
        async with inside(model, queue=4) as server, listening(server) as port:
            places = server.service.repository.get("tiny").places
            server.gate.opened.set()
            png = photo()[:60]
            fields = {"host": "x", "content-type": "image/png", "content-length": len(png)}
            lines = ["POST /v1/classify HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
            bad = "\r\n".join(lines)
            whole = b"".join(request(INFER))
            connections = [await asyncio.open_connection("127.0.0.1", port) for _ in range(24)]
            for place, (_, writer) in enumerate(connections):
                writer.write(bad.encode() + png if place % 3 == 0 else whole)
            statuses = [(await answer(reader))[0] for reader, _ in connections]
            assert set(statuses) <= {200, 400, 503}
            assert 200 in statuses
            assert (places.taken, places.expected) == (0, 0)
            for _, writer in connections:
                writer.close()

    asyncio.run(run())
