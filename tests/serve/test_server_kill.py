"""``kill -9`` of a server under load: clients see right answers or closed connections, and it starts again."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
from servers import PATIENCE, Running, images, running
from test_server import INFER, binary, logits_of

from nybble.engine import Engine

#: Moments at which a server is killed; 50 for a series by hand, which prints how long the restarts take.
KILLS = int(os.environ.get("NYBBLE_KILLS", "2"))
CLIENTS = 8


def test_a_killed_server_answers_rightly_or_not_at_all(model: Path, engine: Engine, tmp_path: Path) -> None:
    draw = random.Random(23)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    before = sorted(model.rglob("*"))
    port, restarts, answers = 0, [], 0
    for kill in range(KILLS):
        begun = time.monotonic()
        with running(f"tiny={model}", log=tmp_path / "log", port=port, temporary=temporary) as server:
            # The same port each time: what a killed server left must not stop the next one.
            port = server.port
            assert httpx.get(f"{server.url}/v2/health/ready").status_code == 200
            restarts.append(time.monotonic() - begun)
            answers += _killed_under_load(server, engine, draw.random() * 0.4)
        assert list(temporary.iterdir()) == [], f"after kill {kill}"
    assert sorted(model.rglob("*")) == before
    assert answers > 0
    sys.stdout.write(f"{KILLS} kills, {answers} answers; ready within {max(restarts):.2f} seconds\n")


def _killed_under_load(server: Running, engine: Engine, seconds: float) -> int:
    """The number of right answers until the server is killed, so many seconds after the first."""
    photos = images(3)
    expected, request = engine(photos), binary(photos)
    first = threading.Event()

    def ask() -> int:
        right = 0
        with httpx.Client(base_url=server.url, timeout=PATIENCE) as client:
            while True:
                try:
                    answer = client.post(INFER, **request)
                except httpx.TransportError:
                    return right
                assert answer.status_code == 200 and np.array_equal(logits_of(answer), expected)
                right += 1
                first.set()

    with ThreadPoolExecutor(CLIENTS) as pool:
        asking = [pool.submit(ask) for _ in range(CLIENTS)]
        first.wait(PATIENCE)
        time.sleep(seconds)
        assert server.stop(signal.SIGKILL) == -signal.SIGKILL
        return sum(each.result(PATIENCE) for each in asking)
