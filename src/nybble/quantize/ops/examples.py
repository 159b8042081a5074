"""Small networks around one operation, for the tests that run over the registry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

#: (C, H, W) of the images that :class:`Around` reads.
SHAPE = (3, 10, 9)


@dataclass(frozen=True)
class FloatExample:
    """A network that contains an operation.

    Attributes
    ----------
    name : str
        Of what is particular about it.
    module : nn.Module
        In evaluation mode; it takes images (N, C, H, W) and returns logits.
    shape : tuple of int
        (C, H, W).
    """

    name: str
    module: nn.Module
    shape: tuple[int, int, int] = SHAPE


class Around(nn.Module):
    """A convolution to 6 channels, a function of its result, and a head of another convolution and a linear layer.

    Parameters
    ----------
    body : callable
        From (N, 6, 10, 9) to images of ``channels``, 3 rows and columns at least.
    channels : int
    """

    def __init__(self, body: Callable[[Tensor], Tensor], channels: int = 6) -> None:
        super().__init__()
        self.body = body
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.second = nn.Conv2d(channels, 8, 3)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of images."""
        y = functional.relu(self.second(self.body(self.first(x))))
        logits: Tensor = self.head(y.mean((2, 3)))
        return logits


def around(name: str, body: Callable[[], Callable[[Tensor], Tensor]], channels: int = 6) -> FloatExample:
    """An example by :class:`Around`, with weights that are always the same; ``body`` makes its body."""
    return example(name, lambda: Around(body(), channels))


def example(name: str, make: Callable[[], nn.Module], shape: tuple[int, int, int] = SHAPE) -> FloatExample:
    """An example of the module that ``make`` returns, with weights that are always the same."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return FloatExample(name, make().eval(), shape)
