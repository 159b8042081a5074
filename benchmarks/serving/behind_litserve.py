"""The engine behind LitServe: `behind_litserve.py MODEL PORT THREADS BATCH` serves photos until it is ended.

A process handles HTTP, another one runs the engine. Photos travel in JSON, as base64. `run.py peers` asks it.
"""

from __future__ import annotations

import base64
import sys
from typing import Any

import litserve
from classifier import Classifier


class Api(litserve.LitAPI):
    """Batches leave within a millisecond."""

    def __init__(self, model: str, threads: int, batch: int) -> None:
        super().__init__(max_batch_size=batch, batch_timeout=0.001)
        self.model, self.threads = model, threads

    def setup(self, device: str) -> None:
        """Load the engine, in its process."""
        self.classifier = Classifier(self.model, self.threads)

    def decode_request(self, request: dict[str, str]) -> Any:
        """From JSON to a prepared photo."""
        return self.classifier.prepare(base64.b64decode(request["photo"]))

    def batch(self, inputs: list[Any]) -> list[Any]:
        """The photos as they are."""
        return inputs

    def predict(self, x: list[Any]) -> list[int]:
        """A batch to its classes."""
        return self.classifier.run(x)

    def unbatch(self, output: list[int]) -> list[int]:
        """One answer per photo."""
        return output

    def encode_response(self, output: int) -> dict[str, int]:
        """To JSON."""
        return {"index": output}


if __name__ == "__main__":
    model, port, threads, batch = sys.argv[1], *map(int, sys.argv[2:])
    server = litserve.LitServer(Api(model, threads, batch), accelerator="cpu", workers_per_device=1, timeout=60)
    server.run(host="127.0.0.1", port=port, log_level="warning", generate_client_file=False)
