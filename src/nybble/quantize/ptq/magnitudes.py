"""The largest magnitude of each channel over many images."""

from __future__ import annotations

import torch
from torch import Tensor


def widen(found: dict[str, Tensor], key: str, value: Tensor) -> None:
    """Raise (C,) at a key to the largest magnitude of each channel of (N, C, ...)."""
    largest = value.abs().transpose(0, 1).flatten(1).amax(1)
    found[key] = torch.maximum(found[key], largest) if key in found else largest
