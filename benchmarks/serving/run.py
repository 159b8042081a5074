"""The server under load: `run.py STAGE MODEL [OTHER] --image FILE [--seconds S] [--json FILE]`.

STAGE is one of

- ``share``: images per second of processor time, of the server and of the engine (tensors) or of ``nybble classify``
  without its start-up (JPEG), interleaved;
- ``latency``: answers per second and their times, with 1, 8, 32 and 128 clients that each wait for an answer;
- ``overload``: requests at 2 and 5 times the rate that the server can answer;
- ``neighbours``: the time of a request to MODEL while OTHER is overloaded, and the other way round;
- ``peers``: photos per second of nybble's server, LitServe and Ray Serve, with the same engine, interleaved; those that
  are not installed are left out.

``hey`` and ``wrk`` (packages of Debian and Ubuntu) make the requests, on the same processors. Every request holds the
same image. Measure on a quiet machine.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from load import BATCH, THREADS, Body, Server, asked, hey, offered, photo_body, serving, serving_elsewhere, tensor_body

from nybble import Engine, load
from nybble.disturbance import Watch, warning
from nybble.files import JSON, write_text
from nybble.images import load_photo
from nybble.serve.rpc import inference_pb2 as messages

ROUNDS = 5
CLIENTS = (1, 8, 32, 128)
#: Offered rates, as multiples of the peak, and the clients that offer them: more than the queue holds, so that those
#: who wait for an answer leave enough others.
OVERLOADS = (2, 5)
OVERLOADING_CLIENTS = 600
#: What asks the neighbour for more than it can do.
NEIGHBOUR_CLIENTS = 256
#: Clients of the comparison with other servers.
PEER_CLIENTS = 32


def share(models: Sequence[str], photo: Path, seconds: float, folder: Path) -> dict[str, Any]:
    """Images per second of processor time: requests of one photo and of a batch, and JPEG, beside the engine's."""
    with serving(models[:1]) as server, load(models[0], threads=THREADS) as engine:
        image = _image(engine, photo)
        batch = np.repeat(image, BATCH, axis=0)
        one, many, encoded = tensor_body("m0", image, folder), tensor_body("m0", batch, folder), photo_body("m0", photo)
        message = _message("m0", image, folder)
        contestants: dict[str, Callable[[], float]] = {
            "engine": lambda: _engine_rate(engine, batch, seconds),
            "tensors, 1 per request": lambda: _server_rate(server, one, 3 * BATCH, seconds),
            f"tensors, {BATCH} per request": lambda: _server_rate(server, many, 3, seconds),
            "gRPC, 1 per request": lambda: _grpc_rate(server, message, 3 * BATCH, seconds),
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
        for name, beside in zip(list(rates)[1:], ("engine", "engine", "engine", "engine", "classify"), strict=True)
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
    """Goodput at multiples of the peak, and memory, second by second."""
    with serving(models[:1]) as server, load(models[0], threads=THREADS) as engine:
        body = tensor_body("m0", _image(engine, photo), folder)
        asked(server, body, 32, seconds / 4)
        peak = asked(server, body, 32, seconds).summary()
        found: dict[str, Any] = {"peak": peak, "resident_mb": server.resident_mb()}
        for factor in OVERLOADS:
            rate = factor * peak["images_per_second"]
            with ThreadPoolExecutor(1) as pool:
                offering = pool.submit(offered, server, body, OVERLOADING_CLIENTS, seconds, rate, folder)
                memory = []
                while not offering.done():
                    memory.append(round(server.resident_mb()))
                    time.sleep(1)
            answers = offering.result()
            summary = answers.summary()
            found[f"{factor} times"] = summary | {
                "offered_per_second": summary["requests"] / answers.wall,
                "goodput_of_peak": summary["images_per_second"] / peak["images_per_second"],
                "resident_mb": memory,
            }
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


def peers(models: Sequence[str], photo: Path, seconds: float, folder: Path) -> dict[str, Any]:
    """Photos per second and times of answers with :data:`PEER_CLIENTS` clients, by server."""
    encoded = folder / "photo.json"
    encoded.write_text(json.dumps({"photo": base64.b64encode(photo.read_bytes()).decode()}))
    bodies = {
        "litserve": Body("/predict", encoded, {"Content-Type": "application/json"}),
        "ray": Body("/predict", photo, {"Content-Type": "image/jpeg"}),
    }
    left_out = {name for name in bodies if find_spec(name) is None}
    with ExitStack() as stack:
        contestants = {"nybble": (stack.enter_context(serving(models[:1])), photo_body("m0", photo))}
        for name in sorted(bodies.keys() - left_out):
            contestants[name] = (
                stack.enter_context(serving_elsewhere(name, models[0], bodies[name], folder)),
                bodies[name],
            )
        rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in contestants}
        for _ in range(ROUNDS):
            for name, (server, body) in contestants.items():
                asked(server, body, PEER_CLIENTS, seconds / 5)
                rounds[name].append(asked(server, body, PEER_CLIENTS, seconds).summary())
    speeds = {name: [one["images_per_second"] for one in found] for name, found in rounds.items()}
    ratios = {
        name: statistics.median(a / b for a, b in zip(speeds["nybble"], found, strict=True))
        for name, found in speeds.items()
    }
    return {"rounds": rounds, "nybble_against": ratios, "left_out": sorted(left_out)}


def _busy(server: Server, body: Body, seconds: float) -> subprocess.Popen[bytes]:
    command = hey(server, body, NEIGHBOUR_CLIENTS, seconds)
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


def _message(name: str, image: np.ndarray[Any, Any], folder: Path) -> Path:
    """The file of a request over gRPC."""
    request = messages.ModelInferRequest(model_name=name, raw_input_contents=[image.tobytes()])
    request.inputs.add(name="images", datatype="UINT8", shape=image.shape)
    file = folder / "request.pb"
    file.write_bytes(request.SerializeToString())
    return file


def _grpc_rate(server: Server, message: Path, clients: int, seconds: float) -> float:
    script = Path(__file__).with_name("grpc_clients.py")
    command = [sys.executable, str(script), server.grpc, str(message), str(clients), str(seconds)]
    begun = server.processor_seconds()
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    return int(done.stdout) / (server.processor_seconds() - begun)


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


STAGES = {
    "share": share,
    "latency": latency,
    "overload": overload,
    "neighbours": neighbours,
    "peers": peers,
}


def main(words: Sequence[str]) -> None:
    """Run a stage and print what was found."""
    parser = argparse.ArgumentParser(description="nybble serve under load; see docs/serve.md.")
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--image", type=Path, required=True, help="a JPEG file")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to a file")
    given = parser.parse_args(words)
    if not all(map(shutil.which, ("hey", "wrk"))):
        raise SystemExit("hey and wrk are needed: apt-get install hey wrk")
    with tempfile.TemporaryDirectory() as folder:
        watch = Watch()
        found = STAGES[given.stage](given.models, given.image, given.seconds, Path(folder))
        disturbed = warning(watch.taken())
    text = json.dumps({"stage": given.stage, "models": given.models, "warning": disturbed, **found}, indent=1)
    sys.stdout.write(text + "\n")
    if given.json:
        write_text(given.json, text + "\n", JSON)


if __name__ == "__main__":
    main(sys.argv[1:])
