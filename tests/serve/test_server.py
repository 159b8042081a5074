"""A server in a process of its own, and clients written elsewhere."""

from __future__ import annotations

import base64
import json
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from servers import PATIENCE, Running, images, photo, running

from nybble.engine import Engine
from nybble.images import load_photo

INFER = "/v2/models/tiny/infer"
#: Requests with random changes, to the four kinds of body in turn; 400,000 for a series by hand.
MUTATIONS = int(os.environ.get("NYBBLE_MUTATIONS", "1000"))


@pytest.fixture
def http(server: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=PATIENCE) as client:
        yield client


def binary(array: Any) -> dict[str, Any]:
    """A request for photos, as httpx takes it."""
    entry = {
        "name": "images",
        "datatype": "UINT8",
        "shape": array.shape,
        "parameters": {"binary_data_size": array.size},
    }
    header = json.dumps({"inputs": [entry], "parameters": {"binary_data_output": True}}).encode()
    return {"content": header + array.tobytes(), "headers": {"inference-header-content-length": str(len(header))}}


def logits_of(answer: httpx.Response) -> Any:
    length = int(answer.headers["inference-header-content-length"])
    shape = json.loads(answer.content[:length])["outputs"][0]["shape"]
    return np.frombuffer(answer.content[length:], "<f4").reshape(shape)


def test_triton_clients(server: Running, engine: Engine, tmp_path: Path) -> None:
    pytest.importorskip("tritonclient")
    array = images(8)
    np.save(tmp_path / "array.npy", array)
    (tmp_path / "photo.png").write_bytes(photo(3))
    script = Path(__file__).with_name("triton_client.py")
    ports = [server.host, str(server.port), str(server.grpc_port)]
    files = [str(tmp_path / name) for name in ("array.npy", "photo.png", "out.npz")]
    done = subprocess.run(
        [sys.executable, script, *ports, *files], capture_output=True, text=True, timeout=4 * PATIENCE
    )
    assert done.returncode == 0, done.stderr
    found = np.load(tmp_path / "out.npz")
    expected = engine(array)
    for name in ("http", "http_gzip", "http_deflate", "http_async", "grpc", "grpc_async"):
        assert np.array_equal(found[name], expected), name
    assert np.array_equal(found["http_json"], expected[:2])
    preprocessing = engine.graph.preprocessing
    assert preprocessing is not None
    decoded = engine(load_photo(photo(3), preprocessing)[None])
    for name in ("http_photos", "grpc_photos"):
        assert np.array_equal(found[name], np.concatenate([decoded, decoded])), name
    index = int(decoded.argmax())
    assert found["best"][0][0] == f"{decoded[0, index]:f}:{index}:thing {index}"


def test_classify_answers_as_the_command_does(
    server: Running, engine: Engine, http: httpx.Client, tmp_path: Path
) -> None:
    """Bit for bit, whatever the photos come in."""
    # 1: a JPEG that lies on its side.
    turned = tmp_path / "turned.jpg"
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.random.default_rng(5).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(turned, exif=exif)
    contents = [photo(1), turned.read_bytes(), photo(2, kind="WEBP")]
    paths = [tmp_path / name for name in ("0.png", "1.jpg", "2.webp")]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    expected = [
        [{"index": label, "name": name, "score": score} for label, name, score in each]
        for each in engine.classify(paths, top=3)
    ]

    forms = {"files": [("photos", (path.name, path.read_bytes())) for path in paths]}
    documents = {"json": {"photos": [base64.b64encode(content).decode() for content in contents]}}
    for request in (forms, documents):
        answer = http.post("/v1/classify?top=3", **request).raise_for_status().json()
        assert [each["predictions"] for each in answer["photos"]] == expected
        assert (answer["model"], answer["version"]) == ("tiny", "1")
    for path, media, each in zip(paths, ("image/png", "image/jpeg", "application/octet-stream"), expected, strict=True):
        headers = {"content-type": media}
        answer = http.post("/v1/classify?top=3&model=tiny", content=path.read_bytes(), headers=headers).json()
        assert answer["photos"] == [{"file": None, "predictions": each}]


def test_answers_are_the_engines_while_many_ask_and_models_are_reloaded(
    server: Running, engine: Engine, http: httpx.Client
) -> None:
    arrays = [images(1 + seed % 5, seed) for seed in range(16)]
    expected = [engine(array) for array in arrays]
    ended = threading.Event()

    def reload() -> int:
        count = 0
        with httpx.Client(base_url=server.url, timeout=PATIENCE) as client:
            while not ended.is_set():
                client.post("/v2/repository/models/tiny/load").raise_for_status()
                count += 1
        return count

    def ask(worker: int) -> None:
        with httpx.Client(base_url=server.url, timeout=PATIENCE) as client:
            for turn in range(8):
                place = (worker + turn) % len(arrays)
                answer = client.post(INFER, **binary(arrays[place])).raise_for_status()
                assert np.array_equal(logits_of(answer), expected[place])

    with ThreadPoolExecutor(33) as pool:
        reloading = pool.submit(reload)
        try:
            for done in [pool.submit(ask, worker) for worker in range(32)]:
                done.result(2 * PATIENCE)
        finally:
            ended.set()
        assert reloading.result(PATIENCE) >= 2


def test_it_listens_on_loopback_only(server: Running) -> None:
    ports = {server.port, server.grpc_port}
    found = {}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{server.process.pid}/net/{table}").read_text().splitlines()[1:]:
            address, state = line.split()[1], line.split()[3]
            host, port = address.split(":")
            if int(port, 16) in ports and state == "0A":
                found[int(port, 16)] = host
    # gRPC's socket is one of IPv6, bound to ::ffff:127.0.0.1.
    assert found.keys() == ports
    assert set(found.values()) <= {"0100007F", "0000000000000000FFFF00000100007F"}


def test_metrics(server: Running, http: httpx.Client) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    http.post(INFER, **binary(images(2))).raise_for_status()
    http.post("/v1/classify", content=photo(), headers={"content-type": "image/png"}).raise_for_status()
    families = {family.name: family for family in text_string_to_metric_families(http.get("/metrics").text)}
    stages = {each.labels["stage"] for each in families["nybble_stage_seconds"].samples if "stage" in each.labels}
    assert stages == {"queue", "decode", "run"}
    assert families["nybble_batches"].samples[0].labels["reason"]
    assert all(each.value == 0 for each in families["nybble_queue_photos"].samples)
    assert all(each.value == 0 for each in families["nybble_admitted_photos"].samples)


def test_openapi_holds(server: Running, tmp_path: Path) -> None:
    """Schemathesis draws requests from the document, two for each operation, and holds the answers against it."""
    pytest.importorskip("schemathesis")
    # A drawn name would be that of no model, and the body behind it would not be read.
    settings = tmp_path / "schemathesis.toml"
    settings.write_text('[parameters]\n"path.name" = "tiny"\n"path.version" = "1"\n')
    # 500 is not a documented answer; 503 and 504 are.
    checks = "status_code_conformance,content_type_conformance,response_schema_conformance"
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", settings, "run", f"{server.url}/openapi.json"]
    options = ["--max-examples", "2", "--checks", checks, "--seed", "1", "--workers", "1", "--no-color"]
    # A repository that loads and unloads is tried elsewhere.
    narrowed = ["--exclude-path-regex", "/load$|/unload$", "--phases", "fuzzing", "--suppress-health-check", "too_slow"]
    done = subprocess.run(
        [*command, *options, *narrowed], capture_output=True, text=True, timeout=4 * PATIENCE, cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


# ---------------------------------------------------------------------------------------------------------------------
# Bad inputs.


def png(width: int, height: int, rows: int) -> bytes:
    """A PNG that says it is so large, and has so many rows of zeros."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes((3 * width + 1) * rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def memory(server: Running) -> int:
    """Bytes of the server that are in memory."""
    pages = Path(f"/proc/{server.process.pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (png(60_000, 60_000, 100), "more than"),
        (png(9_000, 9_900, 1), "9000x9900 pixels, more than"),
        (photo(kind="JPEG")[:300], "cannot be decoded"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is not an image"),
        (b"GIF89a", "is not an image"),
    ],
    ids=["bomb", "huge", "fragment", "postscript", "header"],
)
def test_bombs_and_fragments_are_refused(server: Running, http: httpx.Client, content: bytes, text: str) -> None:
    before = memory(server)
    answer = http.post("/v1/classify", files=[("a", ("good.png", photo())), ("b", ("bad.png", content))])
    assert (answer.status_code, answer.json()["index"]) == (400, 1)
    assert text in answer.json()["error"]
    assert memory(server) - before < 100 << 20


def test_mutated_requests_do_no_harm(server: Running, engine: Engine, http: httpx.Client) -> None:
    draw = random.Random(17)
    good = binary(images(1))
    document = json.dumps({"photos": [base64.b64encode(photo()).decode()]}).encode()
    requests = [
        (INFER, good["content"], good["headers"]),
        ("/v1/classify", photo(), {"content-type": "image/png"}),
        ("/v1/classify", photo(kind="JPEG"), {"content-type": "image/jpeg"}),
        ("/v1/classify", document, {"content-type": "application/json"}),
    ]
    statuses = set()
    for turn in range(MUTATIONS):
        address, content, headers = requests[turn % len(requests)]
        mutated = bytearray(content)
        for _ in range(draw.randint(1, 4)):
            place = draw.randrange(min(len(mutated), 400))
            how = draw.random()
            if how < 0.6:
                mutated[place] = draw.randrange(256)
            elif how < 0.8:
                del mutated[place : place + draw.randint(1, 50)]
            else:
                mutated[place:place] = draw.randbytes(draw.randint(1, 50))
        statuses.add(http.post(address, content=bytes(mutated), headers=headers).status_code)
    assert statuses <= {200, 400, 413, 404}
    assert np.array_equal(logits_of(http.post(INFER, **good)), engine(images(1)))
    assert server.process.poll() is None


def test_silent_and_vanishing_clients(server: Running, engine: Engine, http: httpx.Client) -> None:
    head = f"POST {INFER} HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n".encode()
    silent = [socket.create_connection((server.host, server.port), PATIENCE) for _ in range(50)]
    for number, connection in enumerate(silent):
        if number % 2:
            connection.sendall(head + b"{")
        if number % 5 == 0:
            connection.close()
    assert np.array_equal(logits_of(http.post(INFER, **binary(images(1)))), engine(images(1)))
    for connection in silent:
        connection.close()
    # Whatever they held is given back.
    until = time.monotonic() + PATIENCE
    while 'nybble_admitted_photos{model="tiny"} 0.0' not in http.get("/metrics").text:
        assert time.monotonic() < until
        time.sleep(0.05)


# ---------------------------------------------------------------------------------------------------------------------
# The end, TLS, the configuration file.


def test_sigterm_answers_what_was_accepted(model: Path, engine: Engine, tmp_path: Path) -> None:
    """Clients that keep asking see right answers, then refused or closed connections between their requests."""
    array = images(4)
    expected = engine(array)
    first = threading.Event()
    with running(f"tiny={model}", "--batch", "1", log=tmp_path / "log") as server:

        def ask(worker: int) -> tuple[int, int]:
            right = lost = 0
            request = binary(array)
            while True:
                # A connection for each request: what has been sent whole on it is accepted.
                try:
                    client = httpx.Client(base_url=server.url, timeout=PATIENCE)
                    with client:
                        answer = client.post(INFER, **request)
                except httpx.ConnectError:
                    return right, lost
                except httpx.HTTPError:
                    # The listener's own queue, which nobody has accepted, is closed with it.
                    lost += 1
                    continue
                assert answer.status_code == 200 and np.array_equal(logits_of(answer), expected)
                right += 1
                first.set()

        with ThreadPoolExecutor(8) as pool:
            asking = [pool.submit(ask, worker) for worker in range(8)]
            first.wait(PATIENCE)
            time.sleep(0.3)
            assert server.stop() == 0
            counts = [each.result(PATIENCE) for each in asking]
    log = [line for line in (tmp_path / "log").read_text().splitlines() if INFER in line]
    assert all("status=200" in line for line in log)
    assert sum(right for right, _ in counts) == len(log) > 0


def test_sigint_ends_it_and_a_taken_port_is_named(model: Path, tmp_path: Path) -> None:
    with running(f"tiny={model}", "--log", "json", log=tmp_path / "log") as server:
        again = [sys.executable, "-m", "nybble", "serve", str(model), "--port", str(server.port)]
        done = subprocess.run(again, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 3
        assert done.stderr.splitlines()[-1].startswith(f"error: cannot listen on 127.0.0.1, port {server.port}")
        assert server.stop(signal.SIGINT) == 130
    records = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [record["message"] for record in records] == [
        "model loaded",
        "ready",
        "draining",
        "model unloaded",
        "stopped",
    ]


def test_tls_tokens_and_versions_by_a_file(model: Path, engine: Engine, tmp_path: Path) -> None:
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    for blob in issued.cert_chain_pems:
        blob.write_to_path(tmp_path / "chain.pem", append=True)
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    (tmp_path / "tokens").write_text("# ours\nsecret\n")
    versions = tmp_path / "versions"
    for number in ("2", "10"):
        (versions / number).mkdir(parents=True)
        (versions / number / "model").symlink_to(model / "model")
    (tmp_path / "serve.toml").write_text(
        'token_file = "tokens"\ncertificate = "chain.pem"\nkey = "key.pem"\n'
        '[models.tiny]\npath = "versions"\nversions = "all"\n'
    )
    with running("--config", tmp_path / "serve.toml", log=tmp_path / "log") as server:
        import ssl

        trusting = ssl.create_default_context(cafile=tmp_path / "authority.pem")
        headers = {"authorization": "Bearer secret"}
        with httpx.Client(base_url=server.url, timeout=PATIENCE, verify=trusting, headers=headers) as http:
            assert http.get("/v2/models/tiny").json()["versions"] == ["10", "2"]
            request = binary(images(1))
            answer = http.post("/v2/models/tiny/versions/2/infer", **request)
            assert np.array_equal(logits_of(answer), engine(images(1)))
            assert json.loads(http.post(INFER, json={}).content)["error"]
        assert server.scheme == "https"
