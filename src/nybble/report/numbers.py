"""Formats numbers: rounded for reading, while the page and the CSV keep the exact ones of the file."""

from __future__ import annotations

from dataclasses import dataclass

#: Between number and unit: a line never breaks there.
NARROW = "\N{NARROW NO-BREAK SPACE}"


@dataclass(frozen=True)
class Number:
    """A number of a file, and the text that shows it."""

    value: float
    text: str

    def __str__(self) -> str:
        return self.text


#: A cell of a table; ``None`` where there is nothing to say.
Cell = Number | str | None


def plain(value: float, digits: int = 1) -> Number:
    """With so many decimals."""
    return Number(value, f"{value:,.{digits}f}")


def count(value: int) -> Number:
    """A whole number."""
    return Number(value, f"{value:,}")


def milliseconds(seconds: float) -> Number:
    """Seconds as milliseconds, to three digits or so."""
    value = seconds * 1e3
    digits = 1 if value >= 9.95 else 2 if value >= 0.995 else 3
    return Number(seconds, f"{value:,.{digits}f}{NARROW}ms")


def percent(share: float, digits: int = 1) -> Number:
    """A share of 1; nothing is rounded to 0 or 100 that is not."""
    step = 10.0**-digits
    value = 100 * share
    if 0 < share < 1:
        value = min(max(value, step), 100 - step)
    return Number(share, f"{value:.{digits}f}{NARROW}%")


def points(share: float) -> Number:
    """A difference of shares in percentage points, signed."""
    return Number(share, f"{100 * share:+.1f}".replace("-", "\N{MINUS SIGN}"))


def megabytes(size: int) -> Number:
    """Bytes in 10**6."""
    value = size / 1e6
    return Number(size, f"{value:,.{0 if value >= 99.5 else 1}f}{NARROW}MB")


def times(ratio: float) -> Number:
    """A ratio."""
    return Number(ratio, f"{ratio:.2f}\N{MULTIPLICATION SIGN}")


def compact(value: float) -> Number:
    """A number of any size."""
    return Number(value, f"{value:.4g}")


def between(low: Number, high: Number) -> str:
    """A range, its unit said once."""
    first, second = low.text, high.text
    number, _, unit = first.partition(NARROW)
    return f"{number} to {second}" if second.endswith(f"{NARROW}{unit}") and unit else f"{first} to {second}"
