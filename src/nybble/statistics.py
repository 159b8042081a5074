"""Counts of right answers, their confidence intervals, and whether two networks differ."""

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
        """95 % interval after Wilson (1927), which unlike the normal approximation stays valid near 0 and 1."""
        n, p, z2 = self.total, self.value, _Z95 * _Z95
        centre = (p + z2 / (2 * n)) / (1 + z2 / n)
        half = _Z95 / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
        return max(0.0, centre - half), min(1.0, centre + half)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.value:.2%} ({self.right} of {self.total}; 95 % interval {low:.1%} to {high:.1%})"


class Discordance(NamedTuple):
    """Two networks on the same ``total`` photos: how many only the first, and only the second, classified correctly."""

    first_only: int
    second_only: int
    total: int

    @property
    def difference(self) -> float:
        """Share of the second minus that of the first."""
        return (self.second_only - self.first_only) / self.total

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the difference after Agresti and Min (2005): half a photo added to each of four cells."""
        first, second, n = self.first_only + 0.5, self.second_only + 0.5, self.total + 2
        centre = (second - first) / n
        half = _Z95 * math.sqrt(first + second - (second - first) ** 2 / n) / n
        return max(-1.0, centre - half), min(1.0, centre + half)

    @property
    def p_value(self) -> float:
        """Exact two-sided p-value after McNemar (1947): the probability of so uneven a split if both are equal."""
        pairs, fewer = self.first_only + self.second_only, min(self.first_only, self.second_only)
        # Python's integers: a float would overflow from about a thousand pairs on.
        tail = sum(math.comb(pairs, count) for count in range(fewer + 1))
        return min(1.0, 2 * tail / (1 << pairs))

    def __str__(self) -> str:
        low, high = self.interval
        return (
            f"{100 * self.difference:+.2f} points (95 % interval {100 * low:+.1f} to {100 * high:+.1f}; only the first "
            f"right {self.first_only}, only the second {self.second_only}; McNemar p = {self.p_value:.2g})"
        )
