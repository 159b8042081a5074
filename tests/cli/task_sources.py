"""Networks that are not classifiers, which the tests of ``nybble quantize`` name as SOURCE."""

from __future__ import annotations

import torch
from torch import nn

from nybble.graph import Preprocessing

ROWS, COLUMNS = 12, 16


def denoiser() -> nn.Module:
    """Three convolutions from a gray image to what is to be subtracted from it, with drawn weights."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        network = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(8, 1, 3, padding=1),
        )
    network.preprocessing = Preprocessing(
        crop=(ROWS, COLUMNS), fit="none", mean=(0.0,), std=(1.0,), scale_denominator=1.0
    )
    return network
