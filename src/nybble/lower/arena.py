"""Memory: where every value of one image lies, so that values that are never live at once share it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

#: Offsets and sizes are multiples of a cache line, for any batch.
ALIGNMENT = 64


@dataclass(frozen=True)
class Lifetime:
    """A block of ``nbytes`` that is written at step ``first`` and read for the last time at ``last``."""

    nbytes: int
    first: int
    last: int

    def overlaps(self, other: Lifetime) -> bool:
        """Whether both blocks are in use during some step."""
        return self.first <= other.last and other.first <= self.last


def place(lifetimes: Sequence[Lifetime]) -> tuple[list[int], int]:
    """Place blocks in one arena: offsets, in the order of ``blocks``, and the total size.

    Greedy by size: the largest block first, each at the lowest offset where it meets no block that it
    lives together with (Pisarchyk and Lee 2020, "Efficient memory management for deep neural net inference").
    """
    offsets = [0] * len(lifetimes)
    placed: list[int] = []
    total = 0
    for index in sorted(range(len(lifetimes)), key=lambda i: -lifetimes[i].nbytes):
        block = lifetimes[index]
        size = aligned(block.nbytes)
        offset = 0
        for other in sorted((i for i in placed if lifetimes[i].overlaps(block)), key=lambda i: offsets[i]):
            if offset + size <= offsets[other]:
                break
            offset = max(offset, offsets[other] + aligned(lifetimes[other].nbytes))
        offsets[index] = offset
        placed.append(index)
        total = max(total, offset + size)
    return offsets, total


def aligned(nbytes: int) -> int:
    """``nbytes`` rounded up to :data:`ALIGNMENT`."""
    return -(-nbytes // ALIGNMENT) * ALIGNMENT
