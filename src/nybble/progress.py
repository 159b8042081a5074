"""How long-running functions tell their caller how far they are; ``nybble.cli.progress`` shows it as bars."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

T = TypeVar("T")


class Progress(Protocol):
    """Called repeatedly while work goes on, from one thread at a time."""

    def __call__(self, what: str, done: int, total: int | None, /) -> None:
        """Report the kind of work, the amount done, and the total (``None``: not known)."""


def silent(what: str, done: int, total: int | None, /) -> None:
    """Show nothing."""


def counted(items: Iterable[T], what: str, total: int | None, progress: Progress) -> Iterator[T]:
    """Yield the items and report how many are done: 0 before the first, one more after each."""
    progress(what, 0, total)
    for done, item in enumerate(items, 1):
        yield item
        progress(what, done, total)
