"""Ask a server by Triton's clients, in a process of their own: their messages have the same names as nybble's.

Usage: triton_client.py HOST HTTP_PORT GRPC_PORT ARRAY.npy PHOTO OUT.npz
"""

from __future__ import annotations

import queue
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as over_grpc
import tritonclient.http as over_http

WAIT = 180


def tensor(kind: Any, array: Any, **options: Any) -> Any:
    name, datatype = ("images", "UINT8") if array.dtype == np.uint8 else ("photos", "BYTES")
    made = kind.InferInput(name, array.shape, datatype)
    made.set_data_from_numpy(array, **options)
    return made


def admin(client: Any, kind: Any) -> None:
    """Health, metadata, configuration, statistics, repository."""
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("tiny") and client.is_model_ready("tiny.photos", "1")
    assert not client.is_model_ready("cat")
    as_json = {"as_json": True} if kind is over_grpc else {}
    assert client.get_server_metadata(**as_json)["name"] == "nybble"
    metadata = client.get_model_metadata("tiny", **as_json)
    assert [int(size) for size in metadata["inputs"][0]["shape"]] == [-1, 32, 32, 3]
    config = client.get_model_config("tiny", **as_json)
    config = config.get("config", config)
    assert config["input"][0]["data_type"] == "TYPE_UINT8" and config["max_batch_size"] > 0
    statistics = client.get_inference_statistics("tiny", **as_json)["model_stats"][0]
    assert int(statistics["inference_stats"]["success"]["count"]) > 0
    client.unload_model("tiny")
    assert not client.is_model_ready("tiny")
    client.load_model("tiny")
    assert client.is_model_ready("tiny")
    index = client.get_model_repository_index(**as_json)
    states = index["models"] if kind is over_grpc else index
    assert {entry["name"]: entry["state"] for entry in states} == {"tiny": "READY", "tiny.photos": "READY"}


def main(host: str, http_port: str, grpc_port: str, array: str, photo: str, out: str) -> None:
    images = np.load(array)
    photos = np.array([Path(photo).read_bytes()] * 2, dtype=object)
    found: dict[str, Any] = {}
    with over_http.InferenceServerClient(f"{host}:{http_port}", concurrency=8) as client:
        plain = client.infer("tiny", [tensor(over_http, images)])
        found["http"] = plain.as_numpy("logits")
        found["http_json"] = client.infer(
            "tiny",
            [tensor(over_http, images[:2], binary_data=False)],
            outputs=[over_http.InferRequestedOutput("logits", binary_data=False)],
        ).as_numpy("logits")
        for encoding in ("gzip", "deflate"):
            found[f"http_{encoding}"] = client.infer(
                "tiny", [tensor(over_http, images)], request_compression_algorithm=encoding
            ).as_numpy("logits")
        found["http_photos"] = client.infer("tiny.photos", [tensor(over_http, photos)]).as_numpy("logits")
        best = client.infer(
            "tiny.photos",
            [tensor(over_http, photos)],
            outputs=[over_http.InferRequestedOutput("logits", class_count=2)],
        )
        found["best"] = best.as_numpy("logits").astype(str)
        waiting = [client.async_infer("tiny", [tensor(over_http, images[i : i + 1])]) for i in range(len(images))]
        found["http_async"] = np.concatenate([each.get_result().as_numpy("logits") for each in waiting])
        admin(client, over_http)
    with over_grpc.InferenceServerClient(f"{host}:{grpc_port}") as client:
        found["grpc"] = client.infer("tiny", [tensor(over_grpc, images)], client_timeout=WAIT).as_numpy("logits")
        found["grpc_photos"] = client.infer("tiny.photos", [tensor(over_grpc, photos)]).as_numpy("logits")
        told: queue.Queue[tuple[int, Any]] = queue.Queue()

        def keep(place: int) -> Any:
            return lambda result, error: told.put((place, error or result.as_numpy("logits")))

        for i in range(len(images)):
            client.async_infer("tiny", [tensor(over_grpc, images[i : i + 1])], keep(i))
        answers = dict(told.get(timeout=WAIT) for _ in images)
        found["grpc_async"] = np.concatenate([answers[i] for i in range(len(images))])
        admin(client, over_grpc)
    np.savez(out, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
