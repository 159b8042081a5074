"""Servers, requests, and clients that repeat them."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

THREADS = 2
#: Photos of a batch, in the server and in the engine beside it.
BATCH = 8
#: Seconds that another server may take to start.
PATIENCE = 120.0
_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Server:
    """A server in a process of its own."""

    process: subprocess.Popen[str]
    url: str
    log: Path
    grpc: str = ""

    def processor_seconds(self) -> float:
        """Processor time of all its threads so far, in user and system mode."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / _TICK

    def resident_mb(self) -> float:
        """Resident memory in MB."""
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{self.process.pid}/status").read_text())
        return int(found[1]) / 1024 if found else 0.0

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        text = urllib.request.urlopen(f"{self.url}/metrics").read().decode()  # noqa: S310 - our own server
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if re.match(rf"{name}[ {{]", line))


@contextmanager
def serving(models: Sequence[str], more: Sequence[str] = ()) -> Iterator[Server]:
    """``nybble serve`` on free ports, with more options, until the end of the block."""
    named = [f"m{index}={model}" for index, model in enumerate(models)]
    options = ["--port", "0", "--grpc-port", "0", "--threads", str(THREADS), "--batch", str(BATCH), "--log", "json"]
    options += more
    with tempfile.NamedTemporaryFile("w", suffix=".log") as log:
        process = subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-m", "nybble", "serve", *named, *options], stdout=subprocess.PIPE, stderr=log, text=True
        )
        try:
            line = process.stdout.readline() if process.stdout else ""
            found = re.search(r"on (http://\S+), gRPC on (\S+)", line)
            if found is None:
                raise SystemExit("nybble serve did not start; try: nybble serve " + " ".join(named))
            yield Server(process, found[1], Path(log.name), found[2])
        finally:
            process.terminate()
            process.wait()


@dataclass(frozen=True)
class Body:
    """A request that ``hey`` repeats: its address, file and headers, and how many photos it holds."""

    path: str
    file: Path
    headers: dict[str, str]
    photos: int = 1


def tensor_body(name: str, array: np.ndarray[Any, Any], folder: Path) -> Body:
    """A request with binary tensors; of the answer the first class alone, so that the client has little to read."""
    raw = array.tobytes()
    header = {
        "inputs": [
            {
                "name": "images",
                "datatype": "UINT8",
                "shape": list(array.shape),
                "parameters": {"binary_data_size": len(raw)},
            }
        ],
        "outputs": [{"name": "logits", "parameters": {"binary_data": True}}],
    }
    text = json.dumps(header).encode()
    file = folder / f"{name}-{len(array)}.bin"
    file.write_bytes(text + raw)
    headers = {"Inference-Header-Content-Length": str(len(text)), "Content-Type": "application/octet-stream"}
    return Body(f"/v2/models/{name}/infer", file, headers, len(array))


def photo_body(name: str, photo: Path) -> Body:
    """A request with an encoded photo."""
    return Body(f"/v1/classify?model={name}", photo, {"Content-Type": "image/jpeg"})


@dataclass(frozen=True)
class Answers:
    """What ``hey`` saw: seconds and status of each request, and how long it ran."""

    seconds: list[float]
    statuses: list[int]
    wall: float

    def good(self) -> list[float]:
        """Seconds of the requests that were answered."""
        return [second for second, status in zip(self.seconds, self.statuses, strict=True) if status == 200]

    def summary(self, photos: int = 1) -> dict[str, Any]:
        """Rates, times in ms and statuses."""
        good = sorted(self.good())
        return {
            "images_per_second": len(good) * photos / self.wall,
            "p50_ms": 1e3 * _quantile(good, 0.5),
            "p99_ms": 1e3 * _quantile(good, 0.99),
            "requests": len(self.seconds),
            "statuses": {str(status): self.statuses.count(status) for status in sorted(set(self.statuses))},
        }


def asked(server: Server, body: Body, clients: int, seconds: float, rate: float | None = None) -> Answers:
    """Let clients ask for a while, each as soon as it has its answer, at a rate of their own at most."""
    command = hey(server, body, clients, seconds, ["-q", f"{rate / clients:.6f}"] if rate else [])
    begun = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    wall = time.monotonic() - begun
    rows = list(csv.DictReader(done.stdout.splitlines()))
    if not rows:
        raise SystemExit(f"hey had no answer: {done.stderr.strip()}")
    return Answers([float(row["response-time"]) for row in rows], [int(row["status-code"]) for row in rows], wall)


def hey(server: Server, body: Body, clients: int, seconds: float, options: Sequence[str] = ()) -> list[str]:
    """The command that asks; it prints a row for each request."""
    command = ["hey", "-o", "csv", "-z", f"{seconds}s", "-c", str(clients), "-m", "POST", "-t", "600"]
    for key, value in body.headers.items():
        command += ["-T", value] if key == "Content-Type" else ["-H", f"{key}: {value}"]
    return [*command, "-D", str(body.file), *options, server.url + body.path]


#: Photos that a server's queue holds.
QUEUE = 256
#: Asks after a pause of random length, so that requests arrive at a rate, whatever the answers take.
_SCRIPT = """
local file = io.open({file!r}, "rb")
wrk.method, wrk.body = "POST", file:read("*a")
{headers}
function delay() return math.random(0, {most}) end
"""


def offered(server: Server, body: Body, clients: int, seconds: float, rate: float, folder: Path) -> Answers:
    """Let ``wrk`` offer requests at a rate, or more, at random times.

    Where the server cannot answer them all, so many clients as its queue holds wait for an answer: the others offer the
    rate. Answers and times are those of the server's log, of the last three quarters of the time.
    """
    headers = "\n".join(f"wrk.headers[{key!r}] = {value!r}" for key, value in body.headers.items())
    script = folder / "offer.lua"
    most = int(2e3 * (clients - QUEUE) / rate)
    script.write_text(_SCRIPT.format(file=str(body.file), headers=headers, most=most))
    before = server.log.stat().st_size
    begun = time.time()
    command = ["wrk", "-t", "1", "-c", str(clients), "-d", f"{seconds:.0f}s", "--timeout", "60", "-s", str(script)]
    subprocess.run([*command, server.url + body.path], stdout=subprocess.DEVNULL, check=True)  # noqa: S603
    with server.log.open() as log:
        log.seek(before)
        entries = [json.loads(line) for line in log]
    first, last = begun + seconds / 4, begun + seconds
    rows = [
        entry
        for entry in entries
        if entry["message"].startswith("request") and first <= datetime.fromisoformat(entry["time"]).timestamp() < last
    ]
    # A record has how many requests were refused by their headers.
    counted = [(row.get("seconds", 0.0), row["status"]) for row in rows for _ in range(row.get("requests", 1))]
    return Answers([each[0] for each in counted], [each[1] for each in counted], last - first)


def _quantile(values: Sequence[float], share_below: float) -> float:
    return values[min(len(values) - 1, int(share_below * len(values)))] if values else float("nan")


@contextmanager
def serving_elsewhere(name: str, model: str, body: Body, folder: Path) -> Iterator[Server]:
    """The engine behind another server (``behind_NAME.py``), once it has answered a request."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    script = Path(__file__).with_name(f"behind_{name}.py")
    words = [sys.executable, str(script), model, str(port), str(THREADS), str(BATCH)]
    log = folder / f"{name}.log"
    with log.open("w") as sink:
        process = subprocess.Popen(words, stdout=sink, stderr=sink, text=True, start_new_session=True)  # noqa: S603
    server = Server(process, f"http://127.0.0.1:{port}", log)
    try:
        until = time.monotonic() + PATIENCE
        request = urllib.request.Request(  # noqa: S310 - our own server
            server.url + body.path, body.file.read_bytes(), headers=body.headers
        )
        while True:
            try:
                urllib.request.urlopen(request).read()  # noqa: S310
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > until:
                    raise SystemExit(f"{name} did not start:\n{log.read_text()}") from None
                time.sleep(0.5)
        yield server
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait()
