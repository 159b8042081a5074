"""Networks that the tests of ``nybble quantize`` name as SOURCE, and photos of stripes for them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from nybble.graph import Preprocessing

CLASSES = 4
#: Files of weights name their folder, so SOURCE strings can hold it.
INPUT = Preprocessing(resize=8, crop=(8, 8))


def small() -> nn.Module:
    """Two convolutions and a linear layer for photos of 8x8, with drawn weights."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 16, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(256, CLASSES),
        )
    # As if it had seen photos: batch norm with its first statistics is taken for a network without training.
    network[1].running_mean.fill_(0.01)
    network.preprocessing = INPUT
    return network


def untrained() -> nn.Module:
    """As :func:`small`, with weights of the generator as it is, and batch norm that has seen nothing."""
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(512, CLASSES)
    )
    network.preprocessing = INPUT
    return network


def clipped() -> nn.Module:
    """As :func:`small`, its second activation function a ReLU6."""
    network = small()
    network[4] = nn.ReLU6()
    return network


class Several(nn.Module):
    """As :func:`small`, in bfloat16, with the photo's normalisation inside; returns shares of classes and more."""

    def __init__(self) -> None:
        super().__init__()
        self.network = small()
        self.register_buffer("mean", torch.tensor([[[[0.485]], [[0.456]], [[0.406]]]]))
        self.preprocessing = Preprocessing(resize=8, crop=(8, 8), mean=(0.0,) * 3, std=(1.0,) * 3)
        self.to(torch.bfloat16)

    def forward(self, x: Tensor) -> dict[str, Tensor | None]:
        logits = self.network((x.to(self.mean.dtype) - self.mean) / 0.225)
        return {"shares": logits.softmax(1), "other": -logits, "loss": None}


class Sine(nn.Module):
    """Does something that no integer layer does."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, CLASSES, 8)
        self.preprocessing = INPUT

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(self.layer(x)).flatten(1)


def stripes(folder: Path, count: int, *, seed: int = 0, table: bool = False) -> Path:
    """Write noisy photos 10x12 of four classes, in a folder per class or with a ``labels.csv``."""
    random = np.random.default_rng(seed)
    rows = []
    for index in range(count):
        label = index % CLASSES
        samples = random.integers(0, 120, size=(10, 12, 3))
        stripe = np.arange(10)[:, None] if label % 2 else np.arange(12)[None, :]
        samples[..., 0 if label // 2 else 2] += 120 * (stripe % 6 < 3)
        file = f"{index}.png" if table else f"kind{label}/{index}.png"
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(samples.astype(np.uint8)).save(folder / file)
        rows.append((file, label))
    if table:
        with (folder / "labels.csv").open("w", newline="") as sink:
            csv.writer(sink).writerows([("file", "label"), *rows])
    return folder
