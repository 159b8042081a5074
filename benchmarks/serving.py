"""The server under load: `serving.py STAGE MODEL [OTHER] --image FILE [--seconds S] [--json FILE]`.

STAGE is one of

- ``share``: images per second of processor time, of the server and of the engine (tensors) or of ``nybble classify``
  without its start-up (JPEG), interleaved;
- ``latency``: answers per second and their times, with 1, 8, 32 and 128 clients that each wait for an answer;
- ``overload``: requests at 2 and 5 times the rate that the server can answer;
- ``neighbours``: the time of a request to MODEL while OTHER is overloaded, and the other way round;
- ``soak``: some requests per second, tensors and photos, for ``--seconds``; memory and times by the minute, drawn to
  ``--plot``.

``hey`` (a package of Debian and Ubuntu) makes the requests, on the same processors. Every request holds the same image.
Measure on a quiet machine.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from nybble import Engine, load
from nybble.disturbance import Watch, warning
from nybble.files import JSON, write_text
from nybble.images import load_photo

THREADS = 2
#: Photos of a batch, in the server and in the engine beside it.
BATCH = 8
ROUNDS = 5
CLIENTS = (1, 8, 32, 128)
#: Offered rates, as multiples of the peak, and the clients that offer them: at the largest factor every client is
#: still waiting less than the queue's bound.
OVERLOADS = (2, 5)
OVERLOADING_CLIENTS = 600
#: What asks the neighbour for more than it can do.
NEIGHBOUR_CLIENTS = 256
#: Requests per second of each kind, and seconds of a point of the plot.
SOAK_RATE, SOAK_POINT = 10.0, 60.0
SOAK_CLIENTS = 4
_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Server:
    """A server in a process of its own."""

    process: subprocess.Popen[str]
    url: str

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
def serving(models: Sequence[str]) -> Iterator[Server]:
    """``nybble serve`` on a free port, until the end of the block."""
    named = [f"m{index}={model}" for index, model in enumerate(models)]
    options = ["--port", "0", "--grpc-port", "0", "--threads", str(THREADS), "--batch", str(BATCH), "--log", "json"]
    process = subprocess.Popen(  # noqa: S603 - our own command
        [sys.executable, "-m", "nybble", "serve", *named, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        line = process.stdout.readline() if process.stdout else ""
        found = re.search(r"on (http://\S+),", line)
        if found is None:
            raise SystemExit("nybble serve did not start; try: nybble serve " + " ".join(named))
        yield Server(process, found[1])
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
    """Let clients ask for a while, each as soon as it has its answer, or together at a rate."""
    command = _hey(server, body, clients, seconds, ["-q", f"{rate / clients:.6f}"] if rate else [])
    begun = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    wall = time.monotonic() - begun
    rows = list(csv.DictReader(done.stdout.splitlines()))
    if not rows:
        raise SystemExit(f"hey had no answer: {done.stderr.strip()}")
    return Answers([float(row["response-time"]) for row in rows], [int(row["status-code"]) for row in rows], wall)


def _hey(server: Server, body: Body, clients: int, seconds: float, options: Sequence[str] = ()) -> list[str]:
    command = ["hey", "-o", "csv", "-z", f"{seconds}s", "-c", str(clients), "-m", "POST", "-t", "600"]
    for key, value in body.headers.items():
        command += ["-T", value] if key == "Content-Type" else ["-H", f"{key}: {value}"]
    return [*command, "-D", str(body.file), *options, server.url + body.path]


def share(models: Sequence[str], photo: Path, seconds: float, folder: Path) -> dict[str, Any]:
    """Images per second of processor time: requests of one photo and of a batch, and JPEG, beside the engine's."""
    with serving(models[:1]) as server, load(models[0], threads=THREADS) as engine:
        image = _image(engine, photo)
        batch = np.repeat(image, BATCH, axis=0)
        one, many, encoded = tensor_body("m0", image, folder), tensor_body("m0", batch, folder), photo_body("m0", photo)
        contestants: dict[str, Callable[[], float]] = {
            "engine": lambda: _engine_rate(engine, batch, seconds),
            "tensors, 1 per request": lambda: _server_rate(server, one, 3 * BATCH, seconds),
            f"tensors, {BATCH} per request": lambda: _server_rate(server, many, 3, seconds),
            "classify": lambda: _classify_rate(models[0], photo, folder, seconds, engine, image),
            "JPEG": lambda: _server_rate(server, encoded, 3 * BATCH, seconds),
        }
        rates: dict[str, list[float]] = {name: [] for name in contestants}
        for _ in range(ROUNDS):
            for name, run in contestants.items():
                rates[name].append(run())
        batches = server.metric("nybble_photos_total") / server.metric("nybble_batches_total")
    shares = {
        name: statistics.median(a / b for a, b in zip(rates[name], rates[beside], strict=True))
        for name, beside in zip(list(rates)[1:], ("engine", "engine", "engine", "classify"), strict=True)
        if name != "classify"
    }
    return {"images_per_processor_second": rates, "share": shares, "mean_batch": batches}


def latency(models: Sequence[str], photo: Path, seconds: float, folder: Path) -> dict[str, Any]:
    """Times of answers by the number of clients, tensors and photos."""
    with serving(models[:1]) as server, load(models[0], threads=THREADS) as engine:
        bodies = {"tensors": tensor_body("m0", _image(engine, photo), folder), "JPEG": photo_body("m0", photo)}
        return {
            name: {str(clients): asked(server, body, clients, seconds).summary() for clients in CLIENTS}
            for name, body in bodies.items()
        }


def overload(models: Sequence[str], photo: Path, seconds: float, folder: Path) -> dict[str, Any]:
    """Goodput at multiples of the peak, and memory before and after."""
    with serving(models[:1]) as server, load(models[0], threads=THREADS) as engine:
        body = tensor_body("m0", _image(engine, photo), folder)
        asked(server, body, 32, seconds / 4)
        peak = asked(server, body, 32, seconds).summary()
        found: dict[str, Any] = {"peak": peak, "resident_mb": [server.resident_mb()]}
        for factor in OVERLOADS:
            rate = factor * peak["images_per_second"]
            summary = asked(server, body, OVERLOADING_CLIENTS, seconds, rate).summary()
            found[f"{factor} times"] = summary | {
                "offered_per_second": summary["requests"] / seconds,
                "goodput_of_peak": summary["images_per_second"] / peak["images_per_second"],
            }
            found["resident_mb"].append(server.resident_mb())
    return found


def neighbours(models: Sequence[str], photo: Path, seconds: float, folder: Path) -> dict[str, Any]:
    """p99 of each of two models, alone and while the other one is overloaded."""
    if len(models) != 2:
        raise SystemExit("neighbours: name two models")
    found = {}
    with serving(models) as server:
        bodies = []
        for index, model in enumerate(models):
            with load(model, threads=THREADS) as engine:
                bodies.append(tensor_body(f"m{index}", _image(engine, photo), folder))
        for asking, busy in ((0, 1), (1, 0)):
            alone = asked(server, bodies[asking], 1, seconds).summary()
            other = _busy(server, bodies[busy], seconds + 2)
            time.sleep(1)
            beside = asked(server, bodies[asking], 1, seconds).summary()
            other.wait()
            found[models[asking]] = {
                "alone": alone,
                "beside": beside,
                "p99_added_ms": beside["p99_ms"] - alone["p99_ms"],
            }
    return found


def soak(models: Sequence[str], photo: Path, seconds: float, folder: Path) -> dict[str, Any]:
    """Memory and times of answers over a long time, at a small rate."""
    points = []
    with serving(models[:1]) as server, load(models[0], threads=THREADS) as engine:
        bodies = {"tensors": tensor_body("m0", _image(engine, photo), folder), "JPEG": photo_body("m0", photo)}
        begun = time.monotonic()
        while (now := time.monotonic() - begun) < seconds:
            length = min(SOAK_POINT, seconds - now)
            with ThreadPoolExecutor() as pool:
                asking = {
                    name: pool.submit(asked, server, body, SOAK_CLIENTS, length, SOAK_RATE)
                    for name, body in bodies.items()
                }
            summaries = {name: each.result().summary() for name, each in asking.items()}
            points.append({"minutes": now / 60, "resident_mb": server.resident_mb(), **summaries})
    return {"points": points}


def draw_soak(points: Sequence[dict[str, Any]], path: Path) -> None:
    """Memory and times of answers by the minute."""
    pyplot = import_module("matplotlib.pyplot")
    figure, (upper, lower) = pyplot.subplots(2, 1, sharex=True, figsize=(8, 5), layout="constrained")
    minutes = [point["minutes"] for point in points]
    upper.plot(minutes, [point["resident_mb"] for point in points])
    upper.set(ylabel="resident memory, MB", ylim=(0, None))
    for name in ("tensors", "JPEG"):
        for quantile in ("p50_ms", "p99_ms"):
            lower.plot(minutes, [point[name][quantile] for point in points], label=f"{name}, {quantile[:3]}")
    lower.set(xlabel="minutes", ylabel="ms", yscale="log")
    lower.legend()
    figure.savefig(path)


def _busy(server: Server, body: Body, seconds: float) -> subprocess.Popen[bytes]:
    command = _hey(server, body, NEIGHBOUR_CLIENTS, seconds)
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)  # noqa: S603


def _image(engine: Engine, photo: Path) -> np.ndarray[Any, Any]:
    if engine.graph.preprocessing is None:
        raise SystemExit("the model takes no photos")
    return load_photo(photo, engine.graph.preprocessing)[None]


def _engine_rate(engine: Engine, batch: np.ndarray[Any, Any], seconds: float) -> float:
    engine(batch)
    count, begun, until = 0, time.process_time(), time.monotonic() + seconds
    while time.monotonic() < until:
        engine(batch)
        count += len(batch)
    return count / (time.process_time() - begun)


def _server_rate(server: Server, body: Body, clients: int, seconds: float) -> float:
    begun = server.processor_seconds()
    answers = asked(server, body, clients, seconds)
    if len(answers.good()) < len(answers.seconds):
        raise SystemExit("some requests were refused")
    return len(answers.seconds) * body.photos / (server.processor_seconds() - begun)


def _classify_rate(
    model: str, photo: Path, folder: Path, seconds: float, engine: Engine, image: np.ndarray[Any, Any]
) -> float:
    """``nybble classify`` of many copies of the photo, without what it takes for one batch."""
    begun = time.perf_counter()
    for _ in range(10):
        engine(image)
    many = max(4 * BATCH, int(10 * seconds / (time.perf_counter() - begun)))
    times = []
    for count in (BATCH, BATCH + many):
        files = [folder / f"photo-{index}.jpg" for index in range(count)]
        for file in files:
            if not file.exists():
                file.symlink_to(photo.resolve())
        before = os.times()
        command = [sys.executable, "-m", "nybble", "classify", model, *map(str, files), "--threads", str(THREADS)]
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)  # noqa: S603 - our own command
        after = os.times()
        times.append(after.children_user - before.children_user + after.children_system - before.children_system)
    return many / (times[1] - times[0])


def _quantile(values: Sequence[float], share_below: float) -> float:
    return values[min(len(values) - 1, int(share_below * len(values)))] if values else float("nan")


STAGES = {"share": share, "latency": latency, "overload": overload, "neighbours": neighbours, "soak": soak}


def main(words: Sequence[str]) -> None:
    """Run a stage and print what was found."""
    parser = argparse.ArgumentParser(description="nybble serve under load; see docs/serve.md.")
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--image", type=Path, required=True, help="a JPEG file")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="of soak: where the picture goes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to a file")
    given = parser.parse_args(words)
    if shutil.which("hey") is None:
        raise SystemExit("hey is needed: apt-get install hey")
    with tempfile.TemporaryDirectory() as folder:
        watch = Watch()
        found = STAGES[given.stage](given.models, given.image, given.seconds, Path(folder))
        disturbed = warning(watch.taken())
    if given.plot and given.stage == "soak":
        draw_soak(found["points"], given.plot)
    text = json.dumps({"stage": given.stage, "models": given.models, "warning": disturbed, **found}, indent=1)
    sys.stdout.write(text + "\n")
    if given.json:
        write_text(given.json, text + "\n", JSON)


if __name__ == "__main__":
    main(sys.argv[1:])
