"""Record what float ResNet-50 says to the demo's photos: ``models/resnet50/answers.json``.

``python benchmarks/accuracy/resnet50_answers.py``, with what ``resnet50.py`` needs, and scikit-image for the photos.
"""

from __future__ import annotations

from importlib.metadata import version

import numpy as np
import torch
from recorded import top, write
from resnet50 import float_network
from round_trip import MODEL

from nybble.demo import Form, samples
from nybble.graph import read_graph
from nybble.images import load_photo


def main() -> None:
    """Write the file."""
    torch.set_num_threads(1)
    graph = read_graph(MODEL)
    preprocessing = graph.preprocessing
    if preprocessing is None:
        raise SystemExit(f"{MODEL}: has no preprocessing")
    network, plain = float_network()
    photos = np.stack([load_photo(path, preprocessing) for _, path in samples()])
    images = torch.from_numpy(np.ascontiguousarray(preprocessing.normalise(photos).transpose(0, 3, 1, 2)))
    with torch.inference_mode():
        logits = network(images).numpy()
    size = 4 * sum(layer.weight.numel() + layer.bias.numel() for layer in plain.layers().values())
    how = f"the published network in float32, its clips kept; PyTorch {version('torch')}"
    forms = {"float": Form(label="float", how=how, bytes=size)}
    write("resnet50", "resnet50_answers.py", ("torch",), forms, {"float": top(logits, graph)})


if __name__ == "__main__":
    main()
