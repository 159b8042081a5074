"""An hour of mixed requests, each answer compared: `soak.py MODEL ... --image FILE ... [--seconds S] [--plot FILE]`.

Clients ask at a small rate: tensors of one and of three photos and encoded photos, over REST and gRPC, and
``/v1/classify``, of each model. Meanwhile the models are reloaded in turn. Every answer has to equal the engine's, bit
for bit. The file of ``--json`` gets the server's resident memory, processor time and times of answers every few
seconds; ``--plot`` draws them.

The machine may be used by others: time in which the server or the clients were stopped is counted apart, and so are the
times of requests that it touched.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import struct
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from load import THREADS, Server, serving

from nybble import Engine, load
from nybble.files import JSON, write_text
from nybble.serve.rpc import inference_pb2 as messages

CLIENTS = 4
#: Seconds of a point.
POINT = 5.0
#: A thread that sleeps for `TICK` seconds and wakes `LATE` later was stopped.
TICK, LATE = 0.05, 0.5
#: Seconds after a stop in which requests still wait longer because of it.
AFTER = 2.0
#: Seconds for which a connection is kept; the server closes idle ones after five.
KEPT = 3.0
#: The server's own limits have to be longer than others may stop it.
PATIENT = "timeout = 3600\nbody_timeout = 3600\n"


@dataclass
class Expected:
    """What a model answers: for each photo its tensor, logits (1, classes) and classes with scores."""

    tensors: list[Any]
    tensor_logits: list[Any]
    logits: list[Any]
    classes: list[list[tuple[int, str, float]]]


@dataclass
class Tally:
    """What was seen since the last point."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    seconds: list[float] = field(default_factory=list)
    touched: int = 0
    late: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    total: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    reloads: int = 0
    reconnected: int = 0


class Stops:
    """Intervals in which the clients or the server did not run."""

    def __init__(self, server: Server, ended: threading.Event) -> None:
        self._stat = Path(f"/proc/{server.process.pid}/stat")
        self._ended = ended
        self._found: list[tuple[float, float]] = []
        self._since: float | None = None
        self.seconds = 0.0
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()

    def touch(self, first: float, last: float) -> bool:
        """Whether a time overlaps a stop or what follows it."""
        if self._since is not None and last >= self._since:
            return True
        return any(first <= until + AFTER and last >= since for since, until in self._found[-50:])

    def _watch(self) -> None:
        before = time.monotonic()
        while not self._ended.wait(TICK):
            now = time.monotonic()
            if now - before > TICK + LATE:
                self._note(before, now)
            is_stopped = self._stat.read_text().rsplit(")", 1)[1].split()[0] == "T"
            if is_stopped and self._since is None:
                self._since = before
            elif not is_stopped and self._since is not None:
                self._note(self._since, now)
                self._since = None
            before = now

    def _note(self, since: float, until: float) -> None:
        before = self._found[-1][1] if self._found else since
        self._found.append((since, until))
        # What was noted before, of the other one, may overlap.
        self.seconds += max(0.0, until - max(since, before))


class Client:
    """One client's connections."""

    def __init__(self, server: Server, grpc_address: str, tally: Tally) -> None:
        self._address = server.url.removeprefix("http://")
        self._connection: http.client.HTTPConnection | None = None
        self._used = 0.0
        self._tally = tally
        channel = grpc.insecure_channel(grpc_address)
        self._infer = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=messages.ModelInferRequest.SerializeToString,
            response_deserializer=messages.ModelInferResponse.FromString,
        )
        self._load = channel.unary_unary(
            "/inference.GRPCInferenceService/RepositoryModelLoad",
            request_serializer=messages.RepositoryModelLoadRequest.SerializeToString,
            response_deserializer=messages.RepositoryModelLoadResponse.FromString,
        )

    def post(self, path: str, content: bytes, headers: dict[str, str]) -> tuple[http.client.HTTPResponse, bytes]:
        """The response and its body; a kept connection that the server has closed is opened anew, once."""
        if time.monotonic() - self._used > KEPT:
            self._connection = None
        fresh = self._connection is None
        try:
            return self._post(path, content, headers)
        except (ConnectionError, http.client.HTTPException):
            if fresh:
                raise
            self._connection = None
            with self._tally.lock:
                self._tally.reconnected += 1
            return self._post(path, content, headers)

    def _post(self, path: str, content: bytes, headers: dict[str, str]) -> tuple[http.client.HTTPResponse, bytes]:
        if self._connection is None:
            self._connection = http.client.HTTPConnection(self._address)
        self._connection.request("POST", path, content, headers)
        response = self._connection.getresponse()
        body = response.read()
        self._used = time.monotonic()
        if response.status != 200:
            raise RuntimeError(f"{path}: {response.status} {body[:200]!r}")
        return response, body

    def rest(self, model: str, name: str, datatype: str, shape: Sequence[int], raw: bytes) -> Any:
        """Logits over REST, binary both ways."""
        tensor = {"name": name, "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": len(raw)}}
        outputs = [{"name": "logits", "parameters": {"binary_data": True}}]
        text = json.dumps({"inputs": [tensor], "outputs": outputs}).encode()
        headers = {"Inference-Header-Content-Length": str(len(text))}
        response, body = self.post(f"/v2/models/{model}/infer", text + raw, headers)
        length = int(response.headers["Inference-Header-Content-Length"])
        found = json.loads(body[:length])["outputs"][0]
        return np.frombuffer(body[length:], np.float32).reshape(found["shape"])

    def grpc(self, model: str, name: str, datatype: str, shape: Sequence[int], raw: bytes) -> Any:
        """Logits over gRPC."""
        request = messages.ModelInferRequest(model_name=model, raw_input_contents=[raw])
        request.inputs.add(name=name, datatype=datatype, shape=shape)
        response = self._infer(request)
        return np.frombuffer(response.raw_output_contents[0], np.float32).reshape(response.outputs[0].shape)

    def classify(self, model: str, photo: bytes) -> list[tuple[int, str, float]]:
        """Classes of a photo."""
        _, body = self.post(f"/v1/classify?model={model}", photo, {"Content-Type": "image/jpeg"})
        found = json.loads(body)["photos"][0]["predictions"]
        return [(each["index"], each["name"], each["score"]) for each in found]

    def reload(self, model: str, over_grpc: bool) -> None:
        """Read a model anew."""
        if over_grpc:
            self._load(messages.RepositoryModelLoadRequest(model_name=model))
        else:
            self.post(f"/v2/repository/models/{model}/load", b"", {})


def expected_of(model: str, photos: Sequence[bytes]) -> Expected:
    """What the engine answers, by itself."""
    with load(model, threads=THREADS) as engine:
        prepared = [engine.prepare(photo)[None] for photo in photos]
        tensors = [_crop(engine, photo, one) for photo, one in zip(photos, prepared, strict=True)]
        classes = [
            [(int(index), name, float(score)) for index, name, score in found]
            for found in engine.classify(list(photos), top=5)
        ]
        return Expected(tensors, [engine(each) for each in tensors], [engine(each) for each in prepared], classes)


def _crop(engine: Engine, photo: bytes, prepared: Any) -> Any:
    """What a tensor request holds: for an ensemble one crop for all members, where their sizes are the same."""
    shape = getattr(engine, "crop_shape", None)
    if shape is None or prepared.shape[1:] == shape:
        return prepared
    return engine.members[0].engine.prepare(photo)[None]  # type: ignore[attr-defined]


def ask(
    client: Client, model: str, wanted: Expected, photos: Sequence[bytes], chance: random.Random
) -> tuple[str, bool]:
    """One request: its kind, and whether it was answered rightly."""
    kind = chance.choice(("REST tensor", "REST tensors", "REST photos", "gRPC tensor", "gRPC photos", "classify"))
    places = [chance.randrange(len(photos)) for _ in range(3 if kind == "REST tensors" else 1)]
    send = client.grpc if kind.startswith("gRPC") else client.rest
    if kind == "classify":
        return kind, client.classify(model, photos[places[0]]) == wanted.classes[places[0]]
    if kind.endswith("photos"):
        photo = photos[places[0]]
        found = send(f"{model}.photos", "photos", "BYTES", [1], struct.pack("<I", len(photo)) + photo)
        right = wanted.logits[places[0]]
    else:
        tensor = np.concatenate([wanted.tensors[place] for place in places])
        found = send(model, "images", "UINT8", tensor.shape, tensor.tobytes())
        right = np.concatenate([wanted.tensor_logits[place] for place in places])
    return kind, found.shape == right.shape and found.tobytes() == right.tobytes()


def soak(
    models: Sequence[str],
    photos: Sequence[bytes],
    seconds: float,
    rate: float,
    pause: float,
    keep: Callable[[Any], None],
) -> Any:
    """Ask for a while, and reload a model after each pause; ``keep`` gets what was found every minute."""
    wanted = {f"m{place}": expected_of(model, photos) for place, model in enumerate(models)}
    tally, ended = Tally(), threading.Event()
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        settings = Path(folder) / "serve.toml"
        settings.write_text(PATIENT)
        server = stack.enter_context(serving(models, ["--config", str(settings), "--timeout", "3600"]))
        stack.callback(ended.set)
        stops = Stops(server, ended)
        begun = time.monotonic()

        def run(place: int) -> None:
            client, chance = Client(server, server.grpc, tally), random.Random(place)  # noqa: S311
            due = time.monotonic()
            while not ended.is_set():
                due += chance.expovariate(rate / CLIENTS)
                now = time.monotonic()
                if now - due > LATE:  # Stopped, or the answer took long: do not catch up.
                    with tally.lock:
                        tally.late += 1
                    due = now
                if ended.wait(max(0.0, due - now)):
                    return
                first = time.monotonic()
                model = chance.choice(list(wanted))
                try:
                    kind, is_right = ask(client, model, wanted[model], photos, chance)
                    problem = "" if is_right else "another answer"
                except Exception as error:
                    kind, problem = "failed", repr(error)
                last = time.monotonic()
                time.sleep(2 * TICK) if last - first > LATE else None
                with tally.lock:
                    tally.kinds[kind] += 1
                    tally.total[f"{model} {kind}"] += 1
                    if problem:
                        tally.wrong.append(f"{last - begun:.1f} s, {model}, {kind}: {problem}")
                    elif stops.touch(first, last):
                        tally.touched += 1
                    else:
                        tally.seconds.append(last - first)

        def reload() -> None:
            client, names, count = Client(server, server.grpc, tally), list(wanted), 0
            while not ended.wait(pause):
                try:
                    client.reload(names[count % len(names)], count // len(names) % 2 == 1)
                    with tally.lock:
                        tally.reloads += 1
                except Exception as error:
                    with tally.lock:
                        tally.wrong.append(f"reload: {error!r}")
                count += 1

        threads = [threading.Thread(target=run, args=(place,), daemon=True) for place in range(CLIENTS)]
        threads.append(threading.Thread(target=reload, daemon=True))
        for thread in threads:
            thread.start()
        points: list[dict[str, Any]] = []
        used, stopped, since = server.processor_seconds(), 0.0, begun
        while time.monotonic() - begun < seconds and server.process.poll() is None:
            time.sleep(POINT)
            now, now_used, now_stopped = time.monotonic(), server.processor_seconds(), stops.seconds
            with tally.lock:
                times, tally.seconds = sorted(tally.seconds), []
                kinds, tally.kinds = tally.kinds, Counter()
                touched, tally.touched = tally.touched, 0
                reloads, wrong, late, reconnected = tally.reloads, list(tally.wrong), tally.late, tally.reconnected
                total = dict(tally.total)
            points.append(
                {
                    "minutes": (now - begun) / 60,
                    "resident_mb": round(server.resident_mb(), 2),
                    "processor": (now_used - used) / (now - since),
                    "answered_per_second": sum(kinds.values()) / (now - since),
                    "stopped_seconds": now_stopped - stopped,
                    "touched": touched,
                    "p50_ms": 1e3 * times[len(times) // 2] if times else None,
                    "max_ms": 1e3 * times[-1] if times else None,
                    "times_ms": [round(1e3 * each, 1) for each in times],
                }
            )
            used, stopped, since = now_used, now_stopped, now
            counts = {"wrong": wrong, "reloads": reloads, "late": late, "reconnected": reconnected, "requests": total}
            found = {**counts, "stopped_seconds": stops.seconds, "points": points}
            if len(points) % 12 == 0:
                keep(found)
        ended.set()
        for thread in threads:
            thread.join(60)
        with tally.lock:
            found["wrong"] = list(tally.wrong)
            found["requests"] = dict(tally.total)
    found["exit_code"] = server.process.returncode
    keep(found)
    return found


def summary(found: Any) -> dict[str, Any]:
    """What a page says of it."""
    times = sorted(each for point in found["points"] for each in point["times_ms"])
    resident = [point["resident_mb"] for point in found["points"]]
    minute = max(1, round(60 / POINT))
    return {
        "minutes": found["points"][-1]["minutes"],
        "requests": sum(found["requests"].values()),
        "by_kind": found["requests"],
        "wrong": len(found["wrong"]),
        "reloads": found["reloads"],
        "reconnected": found["reconnected"],
        "stopped_seconds": found["stopped_seconds"],
        "touched_by_stops": sum(point["touched"] for point in found["points"]),
        "processor": float(np.mean([point["processor"] for point in found["points"]])),
        "resident_mb": {
            "after 1 minute": resident[min(minute, len(resident)) - 1],
            "after 10 minutes": resident[min(10 * minute, len(resident)) - 1],
            "at the end": resident[-1],
            "most": max(resident),
        },
        "ms": {str(share): times[min(len(times) - 1, int(share * len(times)))] for share in (0.5, 0.99, 0.999)},
        "exit_code": found.get("exit_code"),
    }


def draw(found: Any, path: Path) -> None:
    """Memory, times of answers and their rate."""
    matplotlib = import_module("matplotlib")
    matplotlib.use("Agg")
    pyplot = import_module("matplotlib.pyplot")
    figure, (upper, middle, lower) = pyplot.subplots(3, 1, sharex=True, figsize=(8, 6), layout="constrained")
    points = found["points"]
    minutes = [point["minutes"] for point in points]
    upper.plot(minutes, [point["resident_mb"] for point in points], linewidth=1)
    upper.set(ylabel="resident memory, MB", ylim=(0, None))
    width = max(1, round(60 / POINT))
    spans = [points[first : first + width] for first in range(0, len(points), width)]
    for share in (0.5, 0.99):
        values = [_quantile([each for point in span for each in point["times_ms"]], share) for span in spans]
        middle.plot([span[-1]["minutes"] for span in spans], values, label=f"p{100 * share:.0f}", linewidth=1)
    middle.set(ylabel="ms, by the minute", yscale="log")
    middle.legend()
    durations = [60 * (now - then) for now, then in zip(minutes, [0.0, *minutes], strict=False)]
    answered = [point["answered_per_second"] for point in points]
    stopped = [min(1.0, point["stopped_seconds"] / length) for point, length in zip(points, durations, strict=True)]
    lower.plot(minutes, answered, linewidth=1, label="right answers per second")
    lower.step(minutes, [-5 * share for share in stopped], linewidth=0.7, label="-5 times the share of time stopped")
    lower.set(xlabel="minutes")
    lower.legend(loc="upper right")
    figure.savefig(path, dpi=80)


def _quantile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def main(words: Sequence[str]) -> int:
    """Run, write and draw; 1 where an answer was wrong or missing."""
    parser = argparse.ArgumentParser(description="Mixed requests for an hour; see docs/serve.md.")
    parser.add_argument("models", nargs="*", metavar="MODEL", help="with --draw: none")
    parser.add_argument("--image", type=Path, nargs="+", default=[], metavar="FILE", help="JPEG files")
    parser.add_argument("--seconds", type=float, default=3600.0, help="how long (3600)")
    parser.add_argument("--rate", type=float, default=12.0, help="requests per second of all clients (12)")
    parser.add_argument("--reload", type=float, default=45.0, help="seconds between two reloads (45)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the figures go, once a minute")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="where the picture goes")
    parser.add_argument("--draw", action="store_true", help="only read --json again, and draw")
    given = parser.parse_args(words)

    def keep(found: Any) -> None:
        if given.json:
            write_text(given.json, json.dumps(found) + "\n", JSON)

    if given.draw:
        found = json.loads(given.json.read_text())
    elif not given.models or not given.image:
        parser.error("name a model and an --image")
    else:
        photos = [file.read_bytes() for file in given.image]
        found = soak(given.models, photos, given.seconds, given.rate, given.reload, keep)
    sys.stdout.write(json.dumps(summary(found), indent=1) + "\n")
    sys.stdout.write("".join(f"{line}\n" for line in found["wrong"][:20]))
    if given.plot:
        draw(found, given.plot)
    return 1 if found["wrong"] else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
