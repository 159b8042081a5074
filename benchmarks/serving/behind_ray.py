"""The engine behind Ray Serve: `behind_ray.py MODEL PORT THREADS BATCH` serves photos until it is ended.

One replica behind the HTTP proxy. Photos are the bodies of requests. `run.py peers` starts and asks it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import ray
from classifier import Classifier
from ray import serve

if __name__ == "__main__":
    model, port, threads, batch = sys.argv[1], *map(int, sys.argv[2:])
    # A replica starts in a folder of its own.
    if Path(model).is_dir():
        model = str(Path(model).resolve())

    class Deployed(Classifier):
        """A replica."""

        def __init__(self) -> None:
            super().__init__(model, threads)

        @serve.batch(max_batch_size=batch, batch_wait_timeout_s=0.0)
        async def classes(self, photos: list[Any]) -> list[int]:
            """A batch to its classes."""
            return self.run(photos)

        async def __call__(self, request: Any) -> dict[str, int]:
            """A photo to its class."""
            return {"index": await self.classes(self.prepare(await request.body()))}

    folder = str(Path(__file__).resolve().parent)
    environment = {"env_vars": {"PYTHONPATH": f"{folder}:{os.environ.get('PYTHONPATH', '')}"}}
    cpus = len(os.sched_getaffinity(0))
    # A cluster of its own, whatever others run on this machine.
    local = {"address": "local", "_node_ip_address": "127.0.0.1"}
    ray.init(num_cpus=cpus, include_dashboard=False, runtime_env=environment, **local)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    deployment = serve.deployment(Deployed, max_ongoing_requests=256, ray_actor_options={"num_cpus": 1})
    serve.run(deployment.bind(), name="classify", route_prefix="/predict", blocking=True)
