"""The engine behind other servers: `peers.py litserve|ray MODEL PORT THREADS BATCH` serves photos until killed.

Each decodes and prepares photos as nybble does, runs them in batches that leave as soon as the engine is free, and
answers with the index of the likeliest class. `run.py peers` starts and asks them.
"""

from __future__ import annotations

import base64
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np

import nybble


class Classifier:
    """Photos to classes, for either server."""

    def __init__(self, model: str, threads: int) -> None:
        self.engine = nybble.load(model, threads=threads)

    def prepare(self, photo: bytes) -> Any:
        """A decoded and cropped photo, uint8 (H, W, C)."""
        return self.engine.prepare(photo)

    def run(self, photos: Sequence[Any]) -> list[int]:
        """The likeliest class of each photo."""
        answer = self.engine(np.stack(photos))
        return [int(index) for index in answer.reshape(len(photos), -1).argmax(axis=1)]


def serve_litserve(model: str, port: int, threads: int, batch: int) -> None:
    """A process for HTTP and one for the engine; photos travel in JSON, as base64."""
    litserve = import_module("litserve")

    class Api(litserve.LitAPI):  # type: ignore[misc, name-defined]
        def setup(self, device: str) -> None:
            self.classifier = Classifier(model, threads)

        def decode_request(self, request: dict[str, str]) -> Any:
            return self.classifier.prepare(base64.b64decode(request["photo"]))

        def batch(self, inputs: list[Any]) -> list[Any]:
            return inputs

        def predict(self, x: list[Any]) -> list[int]:
            return self.classifier.run(x)

        def unbatch(self, output: list[int]) -> list[int]:
            return output

        def encode_response(self, output: int) -> dict[str, int]:
            return {"index": output}

    api = Api(max_batch_size=batch, batch_timeout=0.001)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, timeout=60)
    server.run(host="127.0.0.1", port=port, log_level="warning", generate_client_file=False)


def serve_ray(model: str, port: int, threads: int, batch: int) -> None:
    """A replica behind the HTTP proxy of Ray Serve; photos are the bodies of requests."""
    ray, serve = import_module("ray"), import_module("ray.serve")
    ray.init(num_cpus=len(os.sched_getaffinity(0)), include_dashboard=False, _node_ip_address="127.0.0.1")
    serve.start(http_options={"host": "127.0.0.1", "port": port})

    class Deployed(Classifier):
        def __init__(self) -> None:
            super().__init__(model, threads)

        @serve.batch(max_batch_size=batch, batch_wait_timeout_s=0.0)  # type: ignore[untyped-decorator]
        async def classes(self, photos: list[Any]) -> list[int]:
            return self.run(photos)

        async def __call__(self, request: Any) -> dict[str, int]:
            return {"index": await self.classes(self.prepare(await request.body()))}

    deployment = serve.deployment(Deployed, max_ongoing_requests=256, ray_actor_options={"num_cpus": 1})
    serve.run(deployment.bind(), name="classify", route_prefix="/predict", blocking=True)


if __name__ == "__main__":
    {"litserve": serve_litserve, "ray": serve_ray}[sys.argv[1]](sys.argv[2], *map(int, sys.argv[3:6]))
