"""Photos that could not be used: reported and counted, while the work goes on with the others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from nybble.images.errors import ImageError, printable

#: Photos named one by one before the rest is only counted.
_NAMED = 5


class LeftOutPhoto(NamedTuple):
    """A photo by its name in the collection, and why it could not be used."""

    file: str
    reason: str


class LeftOut:
    """Photos that were left out, each once, in the order in which they were met."""

    def __init__(self, photos: Iterable[LeftOutPhoto] = ()) -> None:
        self._reasons = {photo.file: photo.reason for photo in photos}

    def add(self, file: str, reason: str) -> None:
        """Note a photo; one that is known already keeps its first reason."""
        self._reasons.setdefault(file, reason)

    def check(self, read: int) -> None:
        """Raise :class:`ImageError` where photos were left out and not one was read."""
        if self._reasons and not read:
            file, reason = next(iter(self._reasons.items()))
            count = len(self._reasons)
            raise ImageError(file, reason if count == 1 else f"{reason}; none of {count} photos can be used")

    def lines(self) -> list[str]:
        """What to tell: a line for each of the first few photos, then one that counts the others."""
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
