"""A small prepared network and photos of coloured stripes that it can tell apart."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image

from nybble.graph import DType, Padding, Pair, Preprocessing
from nybble.graph.types import Array
from nybble.quantize.config import QuantizeConfig
from nybble.quantize.data import MemoryPhotos
from nybble.quantize.fake.network import QuantizedNetwork, Step
from nybble.quantize.fake.quantizers import ActivationQuantizer, WeightQuantizer
from nybble.quantize.fake.weighted import QuantizedConv2d, QuantizedLinear
from nybble.quantize.ops.relu import ReLU

PREPROCESSING = Preprocessing(resize=8, crop=(8, 8))
CLASSES = 4


def network(method: str = "ste", *, seed: int = 0, classes: int = CLASSES) -> QuantizedNetwork:
    """Two convolutions and a linear layer on (3, 8, 8), float weights drawn under ``seed``; not calibrated."""
    random = torch.Generator().manual_seed(seed)

    def weight(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=random) * (2 / np.prod(shape[1:])) ** 0.5

    entry = ActivationQuantizer("input", DType.S8)
    entry.set_range(2.64)
    first = ActivationQuantizer("relu1", DType.U4, method)  # type: ignore[arg-type]
    second = ActivationQuantizer("relu2", DType.U7, method)  # type: ignore[arg-type]
    conv1 = QuantizedConv2d(
        "conv1",
        weight(8, 3, 3, 3),
        None,
        WeightQuantizer(8, 8, method),
        entry,
        padding=Padding(1, 1, 1, 1),  # type: ignore[arg-type]
    )
    conv2 = QuantizedConv2d(
        "conv2",
        weight(8, 8, 3, 3),
        None,
        WeightQuantizer(8, 4, method),
        first,
        stride=Pair(2, 2),  # type: ignore[arg-type]
    )
    linear = QuantizedLinear("fc", weight(classes, 72), None, WeightQuantizer(classes, 8, method), second)  # type: ignore[arg-type]
    steps = [
        Step("conv1", ("input",), conv1),
        Step("act1", ("conv1",), ReLU()),
        Step("relu1", ("act1",), first),
        Step("conv2", ("relu1",), conv2),
        Step("act2", ("conv2",), ReLU()),
        Step("relu2", ("act2",), second),
        Step("fc", ("relu2",), linear),
    ]
    return QuantizedNetwork(steps, entry, (3, 8, 8), QuantizeConfig(method=method), PREPROCESSING)  # type: ignore[arg-type]


def stripes(count: int, *, seed: int = 0) -> MemoryPhotos:
    """Noisy photos 10x12 of four classes: stripes across or along, red or blue."""
    random = np.random.default_rng(seed)
    labels = [index % CLASSES for index in range(count)]
    photos = []
    for label in labels:
        samples = random.integers(0, 120, size=(10, 12, 3))
        stripe = np.arange(10)[:, None] if label % 2 else np.arange(12)[None, :]
        samples[..., 0 if label // 2 else 2] += 120 * (stripe % 6 < 3)
        photos.append(samples.astype(np.uint8))
    return MemoryPhotos(photos, labels)


def encoded(samples: Array, kind: str = "JPEG", mode: str | None = None) -> bytes:
    """A photo's file content."""
    image = Image.fromarray(samples)
    file = io.BytesIO()
    (image if mode is None else image.convert(mode)).save(file, kind)
    return file.getvalue()
