"""An exponential moving average of a network's weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class WeightAverage:
    """Follows every floating-point parameter and buffer of a network (Polyak and Juditsky 1992, exponentially).

    The decay is ``min(decay, (1 + n) / (10 + n))`` after ``n`` updates, so that the first weights are soon forgotten.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.values = {name: value.detach().clone() for name, value in _floats(network).items()}

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take one step towards the network's weights."""
        self.updates += 1
        share = 1 - min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, value in _floats(network).items():
            self.values[name].lerp_(value, share)

    @contextmanager
    def applied(self, network: nn.Module) -> Iterator[None]:
        """While the block runs, the network has the averaged weights."""
        current = _floats(network)
        kept = {name: value.detach().clone() for name, value in current.items()}
        _copy(self.values, current)
        try:
            yield
        finally:
            _copy(kept, current)

    def state_dict(self) -> dict[str, Any]:
        """Averages and their number."""
        return {"updates": self.updates, "values": self.values}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave."""
        self.updates = state["updates"]
        _copy(state["values"], self.values)


def _floats(network: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in network.state_dict().items() if value.is_floating_point()}


@torch.no_grad()
def _copy(source: dict[str, Tensor], target: dict[str, Tensor]) -> None:
    for name, value in target.items():
        value.copy_(source[name])
