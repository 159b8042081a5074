"""A local server of model files that truncates, corrupts, refuses, or cannot resume, as it is told."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from nybble.published import Manifest, RemoteFile

CONTENTS = {
    "model/model": b"ResNetQuantized\ncompute_mode=s8f32\n",
    "model/npdata/conv1.weight": bytes(range(256)) * 1200,
    "model/npdata/fc.bias": b"\x01\x02\x03\x04" * 500,
}


class Server(ThreadingHTTPServer):
    """Serves ``contents``; ``faults`` names what goes wrong for a path, one entry a request."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.contents = dict(CONTENTS)
        self.faults: dict[str, list[str]] = {}
        self.ranges = True
        #: Set at the end: what a silent server waits for.
        self.released = threading.Event()
        self.requests: list[tuple[str, str | None]] = []

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/repository/commit"

    def count(self) -> Counter[str]:
        return Counter(path for path, _ in self.requests)


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        path = self.path.removeprefix("/repository/commit/")
        asked = self.headers.get("Range")
        self.server.requests.append((path, asked))
        faults = self.server.faults.get(path, [])
        fault = faults.pop(0) if faults else ""
        if fault.isdigit():
            self.send_error(int(fault))
            return
        if fault == "silent":
            self.server.released.wait(20)
            return
        content = self.server.contents.get(path)
        if content is None:
            self.send_error(404)
            return
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.server.ranges else 0
        self.send_response(206 if asked and self.server.ranges else 200)
        if asked and self.server.ranges:
            shown = start + 1 if fault == "wrong range" else start
            self.send_header("Content-Range", f"bytes {shown}-{len(content) - 1}/{len(content)}")
        body = content[start:]
        if fault == "longer":
            body += b"more"
        if fault == "corrupted":
            body = bytes([body[0] ^ 1]) + body[1:]
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if fault == "truncated" else body)


@contextmanager
def running() -> Iterator[Server]:
    """A server on a free port of this machine."""
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.released.set()
            server.shutdown()
            thread.join()


def manifest_of(server: Server) -> Manifest:
    """What the server serves, rightly, as a model called ``tiny``."""
    files = tuple(RemoteFile(path, len(data), hashlib.sha256(data).hexdigest()) for path, data in CONTENTS.items())
    return Manifest("tiny", "a test", "Apache-2.0", "http://127.0.0.1/", server.base, files)
