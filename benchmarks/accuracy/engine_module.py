"""The native integer engine in the place of a torch module, so that one evaluation serves both."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nybble.engine.engine import Engine
from nybble.graph import Graph


class EngineModule(nn.Module):
    """Normalised float images to the engine's logits, which are those of the uint8 photos, bit for bit."""

    def __init__(self, graph: Graph, threads: int = 1) -> None:
        super().__init__()
        self.engine = Engine(graph, threads=threads, tuned=False)

    def forward(self, images: Tensor) -> Tensor:
        """float32 (N, C, H, W) to float32 (N, classes)."""
        return torch.from_numpy(self.engine(images.contiguous().numpy()))
