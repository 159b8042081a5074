"""Triton's classification extension: the best classes in place of a tensor."""

from __future__ import annotations

from collections.abc import Sequence

from nybble.engine.scores import ranked
from nybble.graph.types import Array


def classification(logits: Array, classes: int, names: Sequence[str]) -> tuple[list[int], list[bytes]]:
    """Shape (N, k) and elements ``logit:index:name`` of the best k classes of each photo, best first."""
    best = ranked(logits, classes)
    elements = [
        f"{logits[row, index]:f}:{index}:{names[index]}".encode() for row, order in enumerate(best) for index in order
    ]
    return [len(best), best.shape[1]], elements
