"""The answers of the float and of the integer network side by side, on a few photos."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from nybble.engine.predicting import predict
from nybble.graph import Classify, Embed, Graph, Preprocessing
from nybble.graph.types import Array
from nybble.quantize import atomic
from nybble.quantize.errors import QuantizeError
from nybble.quantize.fake.network import QuantizedNetwork

if TYPE_CHECKING:
    from nybble.engine import Engine
    from nybble.engine.predicting import Runner

#: Photos of the sheet.
PHOTOS = 4
_INCHES = 4.0


class NetworkRunner:
    """A network in PyTorch as what makes predictions: its outputs are named as those of the integer graph."""

    def __init__(self, network: QuantizedNetwork, graph: Graph) -> None:
        self._network = network
        self.graph = graph

    def run(self, x: Array) -> dict[str, Array]:
        """uint8 (N, rows, columns, channels), or normalised float32 (N, C, H, W), to outputs by name."""
        preprocessing = self.graph.preprocessing
        if x.dtype == np.uint8 and preprocessing is not None:
            x = preprocessing.normalise(x).transpose(0, 3, 1, 2)
        found = self._network.real_outputs(torch.from_numpy(np.ascontiguousarray(x)))
        return dict(zip(self.graph.outputs, found.values(), strict=True))


def can_be_drawn(graph: Graph) -> bool:
    """Whether answers of the network are pictures."""
    return graph.task is not None and graph.preprocessing is not None and not isinstance(graph.task, Classify | Embed)


def draw_answers(path: Path, teacher: QuantizedNetwork, engine: Engine, images: Iterable[Tensor]) -> None:
    """Write a PNG file: a row for each photo, with the photo and what the two networks say of it.

    Parameters
    ----------
    path : Path
    teacher : QuantizedNetwork
        In mode ``float``.
    engine : Engine
        Of a network whose answers :func:`can_be_drawn`.
    images : iterable of Tensor
        Normalised batches (N, C, H, W); the first ``PHOTOS`` photos are drawn.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise QuantizeError("drawing answers needs matplotlib: pip install 'nybble[quantize]'") from error

    preprocessing = engine.graph.preprocessing
    if preprocessing is None:
        return
    exact = NetworkRunner(teacher, engine.graph)
    photos = [samples_of(image, preprocessing) for batch in images for image in batch][:PHOTOS]
    rows, columns = preprocessing.crop
    size = (3 * _INCHES, len(photos) * (_INCHES * rows / columns + 0.3))
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(photos), 3, squeeze=False)
    for row, samples in zip(grid, photos, strict=True):
        shown = np.rint(np.clip(samples, 0, 1) * 255).astype(np.uint8)
        shown = np.repeat(shown, 3, axis=2) if shown.shape[2] == 1 else shown
        cells = (shown, _drawn(exact, samples, shown), _drawn(engine, samples, shown))
        for axes, cell, title in zip(row, cells, ("photo", "float network", "integer network"), strict=True):
            axes.imshow(cell, interpolation="nearest")
            axes.set_title(title, fontsize=9)
            axes.axis("off")
    atomic.write(path, functools.partial(figure.savefig, format="png", dpi=90))


def samples_of(image: Tensor, preprocessing: Preprocessing) -> Array:
    """What a normalised image (C, H, W) was made of: float32 (rows, columns, channels), 1 for white, in RGB order."""
    mean, std = (np.asarray(value, np.float32) for value in (preprocessing.mean, preprocessing.std))
    samples: Array = image.numpy().transpose(1, 2, 0) * std + mean
    return np.ascontiguousarray(samples[..., ::-1] if preprocessing.channel_order == "BGR" else samples)


def _drawn(runner: Runner, samples: Array, shown: Array) -> Array:
    answer: Any = predict(runner, samples)
    return np.asarray(answer.draw(shown).convert("RGB"))
