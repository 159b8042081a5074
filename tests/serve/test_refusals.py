"""What is refused, when, and by which status: REST and gRPC alike."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from servers import PATIENCE, Inside, images, inside, photo

from nybble.engine import Engine
from nybble.serve.rpc import inference_pb2 as messages
from nybble.serve.rpc import start_grpc

INFER = "/v2/models/tiny/infer"


def client(server: Inside) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(server.app), base_url="http://127.0.0.1", timeout=PATIENCE)


def tensor(count: int = 1, **parameters: Any) -> tuple[bytes, dict[str, str]]:
    """A binary request for photos, and its headers."""
    array = images(count)
    entry = {"name": "images", "datatype": "UINT8", "shape": list(array.shape)}
    header = json.dumps(
        {"inputs": [{**entry, "parameters": {"binary_data_size": array.size}}], "parameters": parameters}
    ).encode()
    return header + array.tobytes(), {"inference-header-content-length": str(len(header))}


async def entered(server: Inside) -> None:
    """Wait until a batch is at the gate."""
    assert await asyncio.to_thread(server.gate.entered.wait, PATIENCE)


def test_too_many_requests_at_a_time_are_refused_in_json(model: Path) -> None:
    """Not those about health, and only while the others are under way."""

    async def run() -> None:
        async with inside(model, connections=1) as server, client(server) as http:
            body, headers = tensor()
            first = asyncio.create_task(http.post(INFER, content=body, headers=headers))
            await entered(server)
            for refused in (await http.post(INFER, content=body, headers=headers), await http.get("/metrics")):
                assert refused.status_code == 503
                assert refused.headers["retry-after"] == "1"
                assert refused.json()["error"] == "too many requests at a time; this server takes at most 1"
            assert (await http.get("/v2/health/live")).status_code == 200
            server.gate.opened.set()
            assert (await first).status_code == 200
            assert (await http.post(INFER, content=body, headers=headers)).status_code == 200

    asyncio.run(run())


@pytest.mark.parametrize("address", [INFER, "/v1/classify"])
def test_a_full_queue_refuses_before_the_body_is_read(model: Path, address: str) -> None:
    async def run() -> None:
        async with inside(model, queue=2) as server, client(server) as http:
            body, headers = tensor()
            under_way = [asyncio.create_task(http.post(INFER, content=body, headers=headers)) for _ in range(2)]
            await entered(server)
            while server.service.repository.get("tiny").places.taken < 2:
                await asyncio.sleep(0.01)
            read: list[int] = []

            async def watched() -> AsyncIterator[bytes]:
                read.append(1)
                yield body

            refused = await http.post(address, content=watched(), headers={**headers, "content-type": "image/png"})
            assert refused.status_code == 503
            assert int(refused.headers["retry-after"]) >= 1
            assert not read
            server.gate.opened.set()
            assert [(await each).status_code for each in under_way] == [200, 200]
            # There is room again.
            assert (await http.post(INFER, content=body, headers=headers)).status_code == 200
            assert server.service.repository.get("tiny").places.taken == 0

    asyncio.run(run())


def test_what_expires_does_not_run(model: Path) -> None:
    async def run() -> None:
        async with inside(model) as server, client(server) as http:
            body, headers = tensor()
            first = asyncio.create_task(http.post(INFER, content=body, headers=headers))
            await entered(server)
            late, late_headers = tensor(2, timeout=20_000)
            refused = await http.post(INFER, content=late, headers=late_headers)
            assert refused.status_code == 504
            server.gate.opened.set()
            assert (await first).status_code == 200
            assert (await http.post(INFER, content=body, headers=headers)).status_code == 200
            assert server.gate.sizes == [1, 1]

    asyncio.run(run())


def test_work_of_a_client_that_is_gone_is_dropped(model: Path) -> None:
    async def run() -> None:
        async with inside(model) as server, client(server) as http:
            body, headers = tensor()
            first = asyncio.create_task(http.post(INFER, content=body, headers=headers))
            await entered(server)
            two, two_headers = tensor(2)
            await vanish(server.app, two, two_headers)
            server.gate.opened.set()
            assert (await first).status_code == 200
            assert (await http.post(INFER, content=body, headers=headers)).status_code == 200
            assert server.gate.sizes == [1, 1]
            assert b'nybble_dropped_total{model="tiny",reason="client_gone"} 1.0' in server.service.metrics.text()

    asyncio.run(run())


async def vanish(app: Any, body: bytes, headers: dict[str, str]) -> None:
    """Send a request, and close the connection."""
    sent = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive() -> Any:
        message = next(sent, None)
        if message is None:
            await asyncio.sleep(0.2)
            return {"type": "http.disconnect"}
        return message

    async def send(message: Any) -> None:
        pass

    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": "POST", "path": INFER, "query_string": b"", "headers": raw, "client": None}
    await app({**scope, "http_version": "1.1", "scheme": "http", "root_path": ""}, receive, send)


async def ask(server: Inside, address: str, content: bytes, **headers: str) -> httpx.Response:
    async with client(server) as http:
        return await http.post(address, content=content, headers=headers)


GOOD = base64.b64encode(photo()).decode()
BOMB = gzip.compress(bytes(3 << 20))


@pytest.mark.parametrize(
    ("address", "content", "headers", "status", "text"),
    [
        ("/v1/classify", b"x" * 2_000_000, {"content-type": "image/png"}, 413, "at most"),
        ("/v1/classify", BOMB, {"content-type": "image/png", "content-encoding": "gzip"}, 413, "at most"),
        ("/v1/classify", photo()[:-40], {"content-type": "image/png"}, 400, "photo 0: cannot be decoded"),
        ("/v1/classify", b"", {"content-type": "image/png"}, 400, "photo 0: is not an image"),
        ("/v1/classify", photo(size=(600, 500)), {"content-type": "image/png"}, 400, "600x500 pixels, more than"),
        ("/v1/classify", b"x", {"content-type": "text/plain"}, 415, "content-type 'text/plain'"),
        ("/v1/classify", b"x", {"content-type": "image/png", "content-encoding": "br"}, 415, "content-encoding"),
        (
            "/v1/classify",
            b"no gzip at all",
            {"content-type": "image/png", "content-encoding": "gzip"},
            400,
            "not what its",
        ),
        ("/v1/classify", b"{", {"content-type": "application/json"}, 400, "not JSON"),
        ("/v1/classify", b'{"photos": []}', {"content-type": "application/json"}, 400, "photos"),
        ("/v1/classify", b'{"photos": ["?"]}', {"content-type": "application/json"}, 400, "photo 0: is not base64"),
        ("/v1/classify", b"x", {"content-type": "multipart/form-data"}, 400, "form"),
        ("/v1/classify?top=0", photo(), {"content-type": "image/png"}, 400, "top"),
        ("/v1/classify?model=cat", photo(), {"content-type": "image/png"}, 404, "no model 'cat"),
        (INFER, b"[" * 100_000, {}, 400, "not JSON"),
        (INFER, b"{}", {"inference-header-content-length": "9"}, 400, "not a length within"),
        (INFER, b'{"inputs": []}', {}, 400, "one input, 'images'"),
        ("/v2/models/tiny/versions/7/infer", b"{}", {}, 404, "no version '7'"),
        ("/nowhere", b"", {}, 404, "nothing at this address"),
        ("/v2/health/live", b"", {}, 405, "another method"),
        ("/v2/repository/models/cat/load", b"", {}, 404, "not started with"),
        (INFER, b"{}", {"origin": "http://example.org"}, 403, "other sites"),
    ],
)
def test_rest_refuses(
    model: Path, address: str, content: bytes, headers: dict[str, str], status: int, text: str
) -> None:
    async def run() -> None:
        async with inside(model, max_body=1 << 20, max_pixels=200_000) as server:
            server.gate.opened.set()
            answer = await ask(server, address, content, **headers)
            assert (answer.status_code, text in answer.json()["error"]) == (status, True), answer.text
            assert server.service.repository.get("tiny").places.taken == 0

    asyncio.run(run())


def test_the_bad_photo_is_named_by_its_index(model: Path) -> None:
    async def run() -> None:
        async with inside(model) as server:
            server.gate.opened.set()
            body = json.dumps({"photos": [GOOD, GOOD, "AAAA", GOOD]}).encode()
            answer = await ask(server, "/v1/classify", body, **{"content-type": "application/json"})
            assert (answer.status_code, answer.json()["index"]) == (400, 2)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ({"name": "images", "datatype": "UINT8", "shape": [1, 32, 32, 3]}, "neither data nor"),
        ({"name": "images", "datatype": "FP32", "shape": [1, 32, 32, 3], "data": [0]}, "is not UINT8"),
        ({"name": "images", "datatype": "UINT8", "shape": [1, 32, 3, 32], "data": [0]}, "is not [N, 32, 32, 3]"),
        ({"name": "images", "datatype": "UINT8", "shape": [0, 32, 32, 3], "data": []}, "is not [N, 32, 32, 3]"),
        ({"name": "images", "datatype": "UINT8", "shape": [1 << 40, 32, 32, 3], "data": [0]}, "1 elements, but"),
        ({"name": "images", "datatype": "UINT8", "shape": [1, 32, 32, 3], "data": [0]}, "1 elements, but"),
        ({"name": "images", "datatype": "UINT8", "shape": [1, 32, 32, 3], "data": [256]}, "0..255"),
        ({"name": "images", "datatype": "UINT8", "shape": [1, 32, 32, 3], "data": [[1], 2]}, "0..255"),
        ({"name": "cat", "datatype": "UINT8", "shape": [1, 32, 32, 3], "data": [0]}, "one input, 'images'"),
        (
            {
                "name": "images",
                "datatype": "UINT8",
                "shape": [1, 32, 32, 3],
                "parameters": {"binary_data_size": 9},
            },
            "0 bytes are left",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_refused(model: Path, entry: dict[str, Any], text: str) -> None:
    async def run() -> None:
        async with inside(model) as server:
            answer = await ask(server, INFER, json.dumps({"inputs": [entry]}).encode())
            assert (answer.status_code, text in answer.json()["error"]) == (400, True), answer.text

    asyncio.run(run())


def test_bodies_have_a_limit_together_and_a_time(model: Path) -> None:
    async def run() -> None:
        async with inside(model, max_bodies=1 << 20, body_timeout=0.3) as server, client(server) as http:
            server.gate.opened.set()

            async def slow() -> AsyncIterator[bytes]:
                yield b"x" * (1 << 19)
                await asyncio.sleep(PATIENCE)

            # ASGITransport asks for a part of the body when the application does.
            held = asyncio.create_task(http.post("/v1/classify", content=slow(), headers={"content-type": "image/png"}))
            while not server.service.bodies._held:
                await asyncio.sleep(0.01)
            refused = await ask(server, "/v1/classify", b"x" * (1 << 20), **{"content-type": "image/png"})
            assert refused.status_code == 503
            assert (await held).status_code == 408
            assert server.service.bodies._held == 0

    asyncio.run(run())


def test_tokens(model: Path) -> None:
    async def run() -> None:
        async with inside(model, frozenset(("secret",))) as server, client(server) as http:
            assert (await http.get("/v2/health/ready")).status_code == 200
            for given in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic secret"}):
                answer = await http.get("/v2", headers=given)
                assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
            assert (await http.get("/v2", headers={"authorization": "Bearer secret"})).status_code == 200

    asyncio.run(run())


def test_control_may_be_forbidden(model: Path) -> None:
    async def run() -> None:
        async with inside(model, control=False) as server:
            for action in ("load", "unload"):
                answer = await ask(server, f"/v2/repository/models/tiny/{action}", b"")
                assert answer.status_code == 403

    asyncio.run(run())


# ---------------------------------------------------------------------------------------------------------------------
# gRPC.


def call(channel: grpc.aio.Channel, method: str, request: Any, response: Any, **options: Any) -> Any:
    path = f"/inference.GRPCInferenceService/{method}"
    return channel.unary_unary(path, type(request).SerializeToString, response.FromString)(request, **options)


def message(count: int = 1, **options: Any) -> messages.ModelInferRequest:
    array = images(count)
    entry = messages.ModelInferRequest.InferInputTensor(name="images", datatype="UINT8", shape=array.shape)
    given = {"model_name": "tiny", "inputs": [entry], "raw_input_contents": [array.tobytes()], **options}
    return messages.ModelInferRequest(**given)


def infer(channel: grpc.aio.Channel, request: Any, **options: Any) -> Any:
    return call(channel, "ModelInfer", request, messages.ModelInferResponse, **options)


async def refused(answer: Any) -> tuple[str, str]:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await answer
    return error.value.code().name, error.value.details()


def test_grpc_refuses_alike(model: Path, engine: Engine) -> None:
    async def run() -> None:
        async with inside(model, queue=2, max_body=1 << 20, grpc_port=0, max_pixels=200_000) as server:
            rpc, port = await start_grpc(server.service, frozenset())
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                first = asyncio.create_task(_answer(infer(channel, message())))
                await entered(server)
                assert (await refused(infer(channel, message(2), timeout=10)))[0] == "UNAVAILABLE"
                assert (await refused(infer(channel, message(), timeout=0.2)))[0] == "DEADLINE_EXCEEDED"
                parameter = {"timeout": messages.InferParameter(int64_param=20_000)}
                assert (await refused(infer(channel, message(parameters=parameter))))[0] == "DEADLINE_EXCEEDED"
                server.gate.opened.set()
                answer = await first
                assert answer.raw_output_contents[0] == engine(images(1)).tobytes()
                assert (await refused(infer(channel, message(3))))[0] == "RESOURCE_EXHAUSTED"
                assert (await refused(infer(channel, message(400))))[0] == "RESOURCE_EXHAUSTED"
                assert (await refused(infer(channel, message(model_name="cat"))))[0] == "NOT_FOUND"
                assert (await refused(infer(channel, message(raw_input_contents=[b""]))))[0] == "INVALID_ARGUMENT"
                photos = messages.ModelInferRequest.InferInputTensor(name="photos", datatype="BYTES", shape=[2])
                photos.contents.bytes_contents.extend([photo(), b"no photo"])
                bad = messages.ModelInferRequest(model_name="tiny.photos", inputs=[photos])
                code, text = await refused(infer(channel, bad))
                assert (code, text.startswith("photo 1: is not an image")) == ("INVALID_ARGUMENT", True)
            await rpc.stop(None)

    asyncio.run(run())


async def _answer(waited: Any) -> Any:
    return await waited


def test_grpc_tokens_and_streams(model: Path, engine: Engine) -> None:
    async def run() -> None:
        async with inside(model, grpc_port=0) as server:
            server.gate.opened.set()
            rpc, port = await start_grpc(server.service, frozenset(("secret",)))
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                live = messages.ServerLiveRequest()
                assert (await call(channel, "ServerLive", live, messages.ServerLiveResponse)).live
                assert (await refused(infer(channel, message())))[0] == "UNAUTHENTICATED"
                stream = channel.stream_stream(
                    "/inference.GRPCInferenceService/ModelStreamInfer",
                    messages.ModelInferRequest.SerializeToString,
                    messages.ModelStreamInferResponse.FromString,
                )
                asked = [message(1, id="a"), message(model_name="cat", id="b"), message(2, id="c")]
                answers = [each async for each in stream(iter(asked), metadata=[("authorization", "Bearer secret")])]
                assert [each.infer_response.id for each in answers] == ["a", "b", "c"]
                assert "no model 'cat'" in answers[1].error_message
                logits = np.frombuffer(answers[2].infer_response.raw_output_contents[0], np.float32)
                assert np.array_equal(logits.reshape(2, -1), engine(images(2)))
            await rpc.stop(None)

    asyncio.run(run())
