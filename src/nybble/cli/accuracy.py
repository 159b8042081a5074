"""Counting right answers, and how sure a count of them is."""

from __future__ import annotations

import math
from typing import NamedTuple

#: Standard deviations of a normal distribution that hold 95 % of it.
_Z95 = 1.959963984540054


class Share(NamedTuple):
    """Right answers out of ``total``."""

    right: int
    total: int

    @property
    def value(self) -> float:
        """The share itself, 0 to 1."""
        return self.right / self.total

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval after Wilson (1927), which unlike the textbook one stays right near 0 and 1."""
        n, p, z2 = self.total, self.value, _Z95 * _Z95
        centre = (p + z2 / (2 * n)) / (1 + z2 / n)
        half = _Z95 / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
        return max(0.0, centre - half), min(1.0, centre + half)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.value:.2%} ({self.right} of {self.total}; 95 % interval {low:.1%} to {high:.1%})"
