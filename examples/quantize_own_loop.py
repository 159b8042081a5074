"""Quantize a network with a training loop of your own: prepare, calibrate, train, convert, run.

    python examples/quantize_own_loop.py IMAGES OUT [EPOCHS]

IMAGES holds one folder per class. The network is torchvision's ResNet-18 with random weights here; load yours in
``float_network``. Everything between ``calibrate`` and ``convert`` is plain torch: a prepared network is an
``nn.Module`` whose weights and activations are rounded as the integer network rounds them, with straight-through
gradients.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional

import nybble
from nybble.graph import Preprocessing, write_graph
from nybble.quantize import (
    CalibrationConfig,
    QuantizeConfig,
    QuantizedNetwork,
    calibrate,
    compare,
    convert,
    evaluate,
    load_source,
    open_photos,
    photo_batches,
    prepare,
    snap_steps,
    split_photos,
)


def float_network(classes: int) -> tuple[nn.Module, Preprocessing]:
    """The trained network, and how photos become its input."""
    module = load_source("torchvision:resnet18").module  # with weights: "torchvision:resnet18@resnet18.pth"
    assert module is not None
    if classes != 1000:
        module.fc = nn.Linear(512, classes)
    return module, Preprocessing(resize=72, crop=(64, 64))


def train(network: QuantizedNetwork, data: Iterable[tuple[Tensor, Tensor, Tensor]], epochs: int) -> None:
    """Your loop; this one is the shortest."""
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)
    network.train()
    for epoch in range(epochs):
        for images, labels, _ in data:  # float32 (N, 3, H, W), normalised, and int64 (N,)
            loss = functional.cross_entropy(network(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch + 1}: loss {loss.item():.3f}")


def main(images: str, out: str, epochs: int) -> None:
    """Quantize ``float_network`` with the photos in ``images``."""
    photos = open_photos(images)  # a folder per class, a labels.csv, a zip file, WebDataset shards
    training, selection = split_photos(photos, 0.2)
    module, preprocessing = float_network(len(photos.classes))

    # Which layer gets how many bits is in the configuration: read it, change it, store it as YAML.
    config = QuantizeConfig(bits="w4a8", method="lsq", calibration=CalibrationConfig(batch=8, workers=0))
    network = prepare(module, (3, *preprocessing.crop), config, preprocessing, photos.classes)
    print(f"{len(network.config.layers)} layers, {len(network.config.activations)} activations")

    data = photo_batches(training, preprocessing, config.calibration)  # any iterable of float32 (N, 3, H, W) will do
    calibrate(network, data)
    print("calibrated:", evaluate(network, selection).top1)

    train(network, data, epochs)
    network.eval()
    snap_steps(network)  # makes the integer multipliers exact again, now that steps have changed
    print("trained:   ", evaluate(network, selection).top1)

    graph, report = convert(network)
    found = compare(
        network, graph, report, (batch.images for batch in photo_batches(selection, preprocessing, config.calibration))
    )
    print(f"integers:   the same class on {found.same_top1:.1%} of {found.images} photos")

    write_graph(graph, out)
    print(nybble.load(out).classify([selection.read(0)], top=1)[0])


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 1)
