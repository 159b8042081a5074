"""Steps that only move codes."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from nybble.quantize.fake.operation import FakeOperation


class Move(FakeOperation):
    """Moves codes without changing them.

    Parameters
    ----------
    move : callable
        From (N, C, H, W) to (N, C', H', W').
    """

    def __init__(self, move: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.move = move

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W)."""
        return self.move(x)
