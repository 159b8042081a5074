"""Many requests to one server: mutated ones to each address, and small ones of many clients."""

from __future__ import annotations

import base64
import json
import os
import random
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx
import numpy as np
import pytest
from servers import PATIENCE, SHAPE, Running, images, photo, running

from nybble.engine import Engine
from tiny_tasks import encoded, picture, write_network

#: Requests with random changes to each kind of body; 100,000 for a series by hand.
MUTATIONS = int(os.environ.get("NYBBLE_MUTATIONS", "150"))
#: Requests of small bodies; 100,000 for a series by hand.
REQUESTS = int(os.environ.get("NYBBLE_REQUESTS", "600"))
CLIENTS = 8
SIZE = int(np.prod(SHAPE))
REFUSED = {"INVALID_ARGUMENT", "NOT_FOUND", "RESOURCE_EXHAUSTED"}


@pytest.fixture(scope="module")
def finder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_network(tmp_path_factory.mktemp("finder"), "detect")


@pytest.fixture(scope="module")
def series(model: Path, finder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server of its own, whose log holds warnings and errors."""
    folder = tmp_path_factory.mktemp("series")
    (folder / "serve.toml").write_text(
        f'access_log = false\n[models.tiny]\npath = "{model}"\n[models.finder]\npath = "{finder}"\n'
    )
    with running("--config", folder / "serve.toml", log=folder / "log") as found:
        yield found
    assert "failed" not in (folder / "log").read_text()


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    content: bytes


class Client:
    """A connection that is kept, or opened anew where the server has closed it. Nothing is checked before it leaves."""

    def __init__(self, server: Running) -> None:
        self._address = (server.host, server.port)
        self._connection: socket.socket | None = None
        self._buffer = b""

    def post(self, path: str, content: bytes, headers: dict[str, str], method: str = "POST") -> Reply:
        lines = [f"{method} {path} HTTP/1.1", "host: x", f"content-length: {len(content)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        request = "\r\n".join([*lines, "", ""]).encode("latin-1") + content
        if self._connection is not None:
            try:
                self._connection.sendall(request)
                return self._read()
            except ConnectionError:
                # Closed after a refusal before the body was read.
                self.close()
        self._connection = socket.create_connection(self._address, PATIENCE)
        self._connection.settimeout(PATIENCE)
        self._connection.sendall(request)
        return self._read()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection, self._buffer = None, b""

    def _read(self) -> Reply:
        while b"\r\n\r\n" not in self._buffer:
            self._more()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        first, *rest = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in rest)}
        length = int(headers["content-length"])
        while len(self._buffer) < length:
            self._more()
        content, self._buffer = self._buffer[:length], self._buffer[length:]
        if headers.get("connection") == "close":
            self.close()
        return Reply(int(first.split()[1]), headers, content)

    def _more(self) -> None:
        assert self._connection is not None
        got = self._connection.recv(1 << 16)
        if not got:
            raise ConnectionResetError
        self._buffer += got


def mutated(draw: random.Random, content: bytes) -> bytes:
    """With one to four changes, most of them in the first 400 bytes."""
    changed = bytearray(content)
    for _ in range(draw.randint(1, 4)):
        place = draw.randrange(max(1, min(len(changed), 400 if draw.random() < 0.8 else len(changed))))
        how = draw.random()
        if how < 0.6 and changed:
            changed[place] = draw.randrange(256)
        elif how < 0.8:
            del changed[place : place + draw.randint(1, 50)]
        else:
            changed[place:place] = draw.randbytes(draw.randint(1, 50))
    return bytes(changed)


def tensors(name: str, kind: str, shape: tuple[int, ...], content: bytes) -> tuple[bytes, dict[str, str]]:
    """A body with a binary tensor, and its headers."""
    parameters = {"binary_data_size": len(content)}
    header = json.dumps(
        {
            "inputs": [{"name": name, "datatype": kind, "shape": shape, "parameters": parameters}],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    return header + content, {"inference-header-content-length": str(len(header))}


def logits_of(reply: Reply) -> Any:
    """Of one photo."""
    length = int(reply.headers.get("inference-header-content-length", 0))
    if not length:  # The change was one of the field that asks for binary outputs.
        return np.array(json.loads(reply.content)["outputs"][0]["data"], "f4")
    return np.frombuffer(reply.content[length:], "<f4")


def classes_of(engine: Engine, content: bytes) -> list[dict[str, Any]]:
    return [{"index": each.label, "name": each.name, "score": each.score} for each in engine.classify([content])[0]]


def tensor_is_right(engine: Engine, body: bytes, reply: Reply) -> None:
    """An answer to a whole tensor, which is the end of the body, is the engine's."""
    array = np.frombuffer(body[-SIZE:], np.uint8).reshape(1, *SHAPE)
    assert np.array_equal(logits_of(reply), engine(array)[0])


def photo_is_right(engine: Engine, body: bytes, reply: Reply) -> None:
    assert json.loads(reply.content)["photos"][0]["predictions"] == classes_of(engine, body)


def not_compared(engine: Engine, body: bytes, reply: Reply) -> None:
    """What the change left of the photos is not known here."""


class Kind(NamedTuple):
    """A request that is changed, and what must hold of an answer that is no refusal."""

    path: str
    content: bytes
    headers: dict[str, str]
    is_right: Callable[[Engine, bytes, Reply], None] = not_compared


def kinds() -> dict[str, Kind]:
    infer = "/v2/models/tiny/infer"
    png, jpeg = photo(), photo(kind="JPEG")
    flat = {"name": "images", "datatype": "UINT8", "shape": [1, *SHAPE], "data": images(1).reshape(-1).tolist()}
    form = b'--b\r\ncontent-disposition: form-data; name="a"; filename="a.png"\r\n\r\n' + png + b"\r\n--b--\r\n"
    document = json.dumps({"photos": [base64.b64encode(png).decode()]}).encode()
    as_json = {"content-type": "application/json"}
    return {
        "tensors": Kind(infer, *tensors("images", "UINT8", (1, *SHAPE), images(1).tobytes()), tensor_is_right),
        "tensors in JSON": Kind(infer, json.dumps({"inputs": [flat]}).encode(), as_json),
        "encoded photos": Kind(
            "/v2/models/tiny.photos/infer",
            *tensors("photos", "BYTES", (1,), len(png).to_bytes(4, "little") + png),
        ),
        "a PNG": Kind("/v1/classify", png, {"content-type": "image/png"}, photo_is_right),
        "a JPEG": Kind("/v1/classify", jpeg, {"content-type": "image/jpeg"}, photo_is_right),
        "a form": Kind("/v1/classify", form, {"content-type": "multipart/form-data; boundary=b"}),
        "photos in JSON": Kind("/v1/classify", document, as_json),
        "a photo of a detector": Kind("/v1/predict?model=finder", encoded(picture()), {"content-type": "image/png"}),
        "the index": Kind("/v2/repository/index", b'{"ready": true}', as_json),
    }


@pytest.mark.parametrize("name", kinds())
def test_mutated_bodies(series: Running, engine: Engine, name: str) -> None:
    """Refused, or answered rightly; whole ones are answered afterwards."""
    draw = random.Random(name)
    kind = kinds()[name]
    client, statuses = Client(series), set()
    for _ in range(MUTATIONS):
        body = mutated(draw, kind.content)
        reply = client.post(kind.path, body, kind.headers)
        statuses.add(reply.status)
        if reply.status == 200:
            kind.is_right(engine, body, reply)
    assert statuses <= {200, 400, 413}
    reply = client.post(kind.path, kind.content, kind.headers)
    assert reply.status == 200
    kind.is_right(engine, kind.content, reply)
    client.close()


def test_mutated_addresses(series: Running) -> None:
    """Of every address but the one that unloads."""
    draw = random.Random(5)
    client, statuses = Client(series), set()
    known = httpx.get(f"{series.url}/openapi.json").json()["paths"]
    whole = [
        (method.upper(), path.replace("{name}", "tiny").replace("{version}", "1"))
        for path, methods in known.items()
        for method in methods
        if not path.endswith("unload")
    ]
    whole += [("GET", "/"), ("GET", "/metrics"), ("GET", "/openapi.json")]
    for _ in range(MUTATIONS):
        method, path = draw.choice(whole)
        # No byte that would end the line.
        address = quote(mutated(draw, path.encode()), safe="/?&=%.#:@+,;")
        statuses.add(client.post("/" + address.lstrip("/"), b"", {}, method).status)
    assert statuses <= {200, 307, 400, 404, 405, 413, 415}
    assert all(client.post("/v2/health/ready", b"", {}, "GET").status == 200 for _ in range(3))
    client.close()


@pytest.mark.parametrize("procedure", ["ModelInfer", "ModelMetadata", "RepositoryIndex"])
def test_mutated_messages(series: Running, engine: Engine, procedure: str) -> None:
    import grpc

    from nybble.serve.rpc import inference_pb2 as messages

    draw = random.Random(7)
    array = images(1)
    request = messages.ModelInferRequest(model_name="tiny", raw_input_contents=[array.tobytes()])
    request.inputs.add(name="images", datatype="UINT8", shape=array.shape)
    whole = {
        "ModelInfer": request,
        "ModelMetadata": messages.ModelMetadataRequest(name="tiny", version="1"),
        "RepositoryIndex": messages.RepositoryIndexRequest(ready=True),
    }[procedure].SerializeToString()
    with grpc.insecure_channel(f"{series.host}:{series.grpc_port}") as channel:
        call = channel.unary_unary(f"/inference.GRPCInferenceService/{procedure}")
        for _ in range(MUTATIONS):
            body = mutated(draw, whole)
            try:
                call(body, timeout=PATIENCE)
            except grpc.RpcError as error:
                assert error.code().name in REFUSED, error
        answer = call(whole, timeout=PATIENCE)
    if procedure == "ModelInfer":
        raw = messages.ModelInferResponse.FromString(answer).raw_output_contents[0]
        assert np.array_equal(np.frombuffer(raw, "<f4"), engine(array)[0])


def test_many_small_requests(series: Running, engine: Engine) -> None:
    """Of several clients, one in ten on a connection of its own: right answers, and memory that does not grow."""
    arrays = [images(1, seed) for seed in range(16)]
    requests = [tensors("images", "UINT8", array.shape, array.tobytes()) for array in arrays]
    expected = [engine(array)[0] for array in arrays]

    def ask(worker: int, count: int) -> None:
        draw, client = random.Random(worker), Client(series)
        for _ in range(count):
            which = draw.randrange(len(arrays))
            reply = client.post("/v2/models/tiny/infer", *requests[which])
            assert reply.status == 200 and np.array_equal(logits_of(reply), expected[which])
            if draw.random() < 0.1:
                client.close()
        client.close()

    def all_ask(count: int) -> int:
        with ThreadPoolExecutor(CLIENTS) as pool:
            for each in [pool.submit(ask, worker, count // CLIENTS) for worker in range(CLIENTS)]:
                each.result()
        pages = Path(f"/proc/{series.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    before = all_ask(REQUESTS // 4)
    after = all_ask(REQUESTS - REQUESTS // 4)
    assert after - before < 10 << 20, f"{before >> 20} MiB, then {after >> 20} MiB"
    threads = len(list(Path(f"/proc/{series.process.pid}/task").iterdir()))
    assert threads < 64 and threading.active_count() < 64
