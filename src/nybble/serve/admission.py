"""Limits of admission: photos per model, and bytes of bodies."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any, Self

from nybble.serve.errors import BusyError, TooLargeError


class Bodies:
    """The bytes of all bodies in memory."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0

    def held(self) -> HeldBytes:
        """Bytes that grow in a ``with`` block, and are given back at its end."""
        return HeldBytes(self)

    def takes(self, count: int) -> bool:
        """Whether so many more may be held."""
        return self._held + count <= self._limit

    def take(self, count: int) -> None:
        """Hold more bytes. Raises :class:`BusyError` where they are too many."""
        if not self.takes(count):
            raise BusyError(f"the bodies of current requests take all {self._limit} bytes that the server allows")
        self._held += count

    def give_back(self, count: int) -> None:
        """Hold fewer bytes."""
        self._held -= count


class HeldBytes:
    """The bytes of one body. A context manager, at whose end they are given back."""

    def __init__(self, bodies: Bodies) -> None:
        self._bodies = bodies
        self.count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bodies.give_back(self.count)

    def grow_to(self, count: int) -> None:
        """Hold so many bytes in all, at least as many as before. Raises as :meth:`Bodies.take`."""
        if count > self.count:
            self._bodies.take(count - self.count)
            self.count = count


class Places:
    """Places for the photos of requests under way.

    Attributes
    ----------
    limit, taken : int
    expected : int
        Requests that have arrived and are about to take places.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.taken = 0
        self.expected = 0

    @property
    def is_crowded(self) -> bool:
        """Whether so few places are left that each request has to be checked before it is admitted."""
        return 2 * (self.taken + self.expected) >= self.limit

    @property
    def is_full(self) -> bool:
        """Whether there is no place, counting the expected requests."""
        return self.taken + self.expected >= self.limit

    def take(self, count: int, seconds: float) -> None:
        """Take places.

        Parameters
        ----------
        count : int
        seconds : float
            Approximate run time of a photo, for the time after which to try again.

        Raises
        ------
        BusyError
            If too few are left.
        TooLargeError
            If the request needs more places than there are.
        """
        if count > self.limit:
            raise TooLargeError(f"a request of {count} photos; this model takes {self.limit} at most")
        self.check(count, seconds)
        self.taken += count

    def check(self, count: int, seconds: float) -> None:
        """Raise :class:`BusyError` where there are fewer places left; none is taken."""
        if self.taken + count > self.limit:
            raise self.why(seconds)

    def why(self, seconds: float) -> BusyError:
        """The refusal if there is no place."""
        text = f"the queue is full: it holds {self.taken} photos of at most {self.limit}"
        return BusyError(text, self.taken * seconds)

    def give_back(self, count: int) -> None:
        """Give places back."""
        self.taken -= count


class Expected:
    """A request that is about to take places, until it takes them or ends."""

    def __init__(self, places: Places) -> None:
        self._places: Places | None = places
        places.expected += 1

    def end(self) -> None:
        """Expect it no longer."""
        if self._places is not None:
            self._places.expected -= 1
            self._places = None


#: Where the state of a request over REST holds that it is expected.
EXPECTED = "nybble.expected"


def expected_of(scope: MutableMapping[str, Any]) -> Expected | None:
    """The expected request of an ASGI scope, if there is one."""
    found: Expected | None = scope.get("state", {}).get(EXPECTED)
    return found
