"""Speed of two networks measured side by side, their sizes, and the engine as a network to evaluate."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from nybble.engine import Engine
from nybble.graph import Graph
from nybble.graph import Tensor as GraphTensor
from nybble.turns import take_turns

_ROUNDS = 5
#: A round runs each network at least so long.
_SECONDS = 0.2


class EngineModule(nn.Module):
    """The engine as a module: normalised images (N, C, H, W) to logits (N, classes)."""

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self._engine = engine

    def forward(self, x: Tensor) -> Tensor:
        """Logits, float32."""
        # Behind an average there are rows and columns, one of each.
        return torch.from_numpy(np.array(self._engine(np.ascontiguousarray(x.numpy())))).flatten(1)


def in_turns(runs: Mapping[str, Callable[[], object]], images: int) -> dict[str, float]:
    """Images per second of each, a call having so many images: the median of interleaved rounds."""

    def speed(run: Callable[[], object], _: int) -> float:
        count, begun = 0, time.perf_counter()
        while count == 0 or time.perf_counter() - begun < _SECONDS:
            run()
            count += 1
        return count * images / (time.perf_counter() - begun)

    for run in runs.values():
        run()
    speeds = take_turns([partial(speed, run) for run in runs.values()], range(_ROUNDS))
    return {name: statistics.median(values) for name, values in zip(runs, speeds, strict=True)}


def float_bytes(module: nn.Module) -> int:
    """Of all parameters and buffers."""
    tensors = (*module.parameters(), *module.buffers())
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def graph_bytes(graph: Graph) -> int:
    """Of all constants in a model directory."""
    values = (getattr(node, entry.name) for node in graph for entry in fields(node))
    return sum(value.nbytes for value in values if isinstance(value, GraphTensor))
