"""Photos that could not be used: they are reported and counted, and the others are processed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from nybble.images.errors import ImageError, printable

#: How many photos are named; the others are only counted.
_NAMED = 5


class LeftOutPhoto(NamedTuple):
    """The name of a photo in its collection, and why it could not be used."""

    file: str
    reason: str


class LeftOut:
    """Photos that were left out, each once, in the order in which they were found."""

    def __init__(self, photos: Iterable[LeftOutPhoto] = ()) -> None:
        self._reasons = {photo.file: photo.reason for photo in photos}

    def add(self, file: str, reason: str) -> None:
        """Add a photo; one that was added before keeps its first reason."""
        self._reasons.setdefault(file, reason)

    def check(self, read: int) -> None:
        """Raise :class:`ImageError` if photos were left out and none was read."""
        if self._reasons and not read:
            file, reason = next(iter(self._reasons.items()))
            count = len(self._reasons)
            raise ImageError(file, reason if count == 1 else f"{reason}; none of {count} photos can be used")

    def lines(self) -> list[str]:
        """Lines for the user: one for each of the first few photos, then one that counts the others."""
        told = [f"{printable(file)}: {reason}; left out" for file, reason in list(self._reasons.items())[:_NAMED]]
        more = len(self._reasons) - len(told)
        if more:
            told.append(f"{more} more photo{'s' * (more != 1)} left out")
        return told

    def to_json(self) -> list[dict[str, str]]:
        """The photos and reasons, ready for JSON."""
        return [{"file": file, "reason": reason} for file, reason in self._reasons.items()]

    def __iter__(self) -> Iterator[LeftOutPhoto]:
        return (LeftOutPhoto(file, reason) for file, reason in self._reasons.items())

    def __len__(self) -> int:
        return len(self._reasons)
