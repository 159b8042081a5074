"""Requests to the server, without the network: REST as an ASGI application, gRPC as bytes of its messages."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import random
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_messages import mutate
from fuzz_target import Bytes, Target

sys.path.insert(0, str(Path(__file__).parents[1] / "serve"))
from servers import images, photo, tiny

#: Addresses and the types of their bodies, chosen by the first byte of an input.
ADDRESSES = (
    ("POST", "/v2/models/tiny/infer", "application/octet-stream"),
    ("POST", "/v2/models/tiny/infer", "application/json"),
    ("POST", "/v2/models/tiny.photos/infer", "application/octet-stream"),
    ("POST", "/v1/classify", "image/png"),
    ("POST", "/v1/classify", "image/jpeg"),
    ("POST", "/v1/classify", "application/json"),
    ("POST", "/v1/classify", "multipart/form-data; boundary=b"),
    ("POST", "/v2/repository/index", "application/json"),
    ("GET", None, "text/plain"),
)
#: 501: what the protocol knows and this server does not. 500 is a fault.
STATUSES = {200, 400, 404, 405, 411, 413, 415, 422, 501, 503, 504}


class Requests(Target):
    """A request over REST: its address, the length of a JSON header, its body."""

    name = "server"

    def __init__(self) -> None:
        super().__init__()
        from nybble.serve.rest import make_app
        from nybble.serve.service import Service
        from nybble.serve.settings import ModelSettings
        from nybble.serve.settings import Settings as ServerSettings

        logging.disable(logging.CRITICAL)
        self.loop = asyncio.new_event_loop()
        models = {"tiny": ModelSettings(path=str(tiny(self.scratch / "model")))}
        # An hour as time limits: the process may be stopped for minutes within a request.
        settings = ServerSettings(
            models=models, threads=1, access_log=False, control=False, timeout=3600, body_timeout=3600
        )

        async def start() -> Service:
            service = Service(settings)
            await service.repository.load("tiny")
            return service

        self.service = self.loop.run_until_complete(start())
        self.app = make_app(self.service, frozenset())
        self.good = self._binary(images(1))
        self.expected = self._ask(self.good)
        assert self.expected[0] == 200

    def close(self) -> None:
        self.loop.run_until_complete(self.service.__aexit__())
        self.loop.close()
        super().close()

    @staticmethod
    def _binary(array: Any, name: str = "images", kind: str = "UINT8", content: bytes | None = None) -> bytes:
        body = array.tobytes() if content is None else content
        entry = {"name": name, "datatype": kind, "shape": list(array.shape)}
        header = json.dumps({"inputs": [{**entry, "parameters": {"binary_data_size": len(body)}}]}).encode()
        return len(header).to_bytes(2, "little") + header + body

    def seeds(self) -> Mapping[str, bytes]:
        png = photo(size=(9, 7))
        whole = {"name": "images", "datatype": "UINT8", "shape": [1, 32, 32, 3], "data": [1] * 3072}
        encoded = np.empty(1, object)
        parts = b'--b\r\ncontent-disposition: form-data; name="a"; filename="a.png"\r\n\r\n' + png + b"\r\n--b--\r\n"
        bodies = (
            self._binary(images(1)),
            b"\0\0" + json.dumps({"inputs": [whole], "parameters": {"classification": 2}}).encode(),
            self._binary(encoded, "photos", "BYTES", len(png).to_bytes(4, "little") + png),
            b"\0\0" + png,
            b"\0\0" + photo(size=(9, 7), kind="JPEG"),
            b"\0\0" + json.dumps({"photos": [base64.b64encode(png).decode()], "top_k": 3}).encode(),
            b"\0\0" + parts,
            b"\0\0" + b'{"ready": true}',
            b"\0\0" + b"v2/models/tiny/config",
        )
        return {f"{place}": bytes([place]) + body for place, body in enumerate(bodies)}

    def _ask(self, data: bytes, place: int = 0) -> tuple[int, bytes]:
        source = Bytes(data)
        method, path, kind = ADDRESSES[place]
        length = source.number(0, 65535)
        body = source.rest()
        headers = [(b"host", b"x"), (b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
        if length:
            headers.append((b"inference-header-content-length", str(length).encode()))
        query = b""
        if path is None:
            address, _, query = body[:200].partition(b"?")
            path, body, headers = "/" + address.decode("latin-1"), b"", headers[:1]
        return self.loop.run_until_complete(self._answer(method, path, query, headers, body))

    async def _answer(
        self, method: str, path: str, query: bytes, headers: list[tuple[bytes, bytes]], body: bytes
    ) -> tuple[int, bytes]:
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query,
            "root_path": "",
            "headers": headers,
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
        }
        sent: list[Any] = []
        waiting = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Any:
            if not waiting:
                await asyncio.sleep(3600)
            return waiting.pop()

        async def send(message: Any) -> None:
            sent.append(message)

        # libFuzzer finds a request that never ends. A limit here would count the time while the process is stopped.
        await self.app(scope, receive, send)
        return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])

    def run(self, data: bytes) -> None:
        source = Bytes(data)
        place = source.number(0, len(ADDRESSES) - 1)
        status, answer = self._ask(source.rest(), place)
        assert status in STATUSES, (status, answer[:300])
        if status != 200 and ADDRESSES[place][1] is not None:
            assert json.loads(answer)["error"], answer
        # Whatever it was, the next request is answered as before.
        if data and data[-1] % 16 == 0:
            assert self._ask(self.good) == self.expected


class _Context:
    """A call without a deadline."""

    def time_remaining(self) -> None:
        return None


class Messages(Requests):
    """A gRPC request for inference, as it comes from the connection."""

    name = "grpc"

    def seeds(self) -> Mapping[str, bytes]:
        from nybble.serve.rpc import inference_pb2 as messages

        array, png = images(1), photo(size=(9, 7))
        found = {}
        for name, kind, shape, raw in (
            ("images", "UINT8", array.shape, array.tobytes()),
            ("photos", "BYTES", (1,), len(png).to_bytes(4, "little") + png),
        ):
            request = messages.ModelInferRequest(model_name="tiny" if kind == "UINT8" else "tiny.photos", id="7")
            entry = request.inputs.add(name=name, datatype=kind, shape=shape)
            request.outputs.add(name="logits").parameters["classification"].int64_param = 2
            typed = messages.ModelInferRequest()
            typed.CopyFrom(request)
            request.raw_input_contents.append(raw)
            found[kind.lower()] = request.SerializeToString()
            if kind == "BYTES":
                typed.inputs[0].contents.bytes_contents.append(png)
            else:
                typed.inputs[0].contents.uint_contents.extend(array.ravel().tolist())
            found[f"{kind.lower()}-contents"] = typed.SerializeToString()
            del entry
        return found

    def mutate(self, data: bytes, draw: random.Random) -> bytes:
        from google.protobuf.message import DecodeError

        from nybble.serve.rpc import inference_pb2 as messages

        request = messages.ModelInferRequest()
        try:
            request.ParseFromString(data)
        except DecodeError:
            return data
        mutate(request, draw)
        return request.SerializeToString()

    def run(self, data: bytes) -> None:
        from google.protobuf.message import DecodeError

        from nybble.serve.errors import RefusedError
        from nybble.serve.rpc import inference_pb2 as messages
        from nybble.serve.rpc.servicer import Servicer

        try:
            request = messages.ModelInferRequest.FromString(data)
        except DecodeError:  # gRPC answers this one itself.
            return
        servicer = Servicer(self.service)
        try:
            answer = self.loop.run_until_complete(servicer.ModelInfer(request, _Context()))
        except RefusedError as error:
            assert error.status in STATUSES, error
        else:
            assert answer.SerializeToString()
