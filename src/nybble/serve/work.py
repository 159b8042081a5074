"""Photos on their way through a network, and the queue in which they wait."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from nybble.graph.types import Array


@dataclass(eq=False, slots=True)
class Work:
    """Photos of one request that run together.

    Attributes
    ----------
    photos : ndarray
        Prepared photos, uint8 (N, ...).
    deadline : float
        By ``time.monotonic``; afterwards the answer is not needed.
    answer : Future
        Set to the logits, in the loop of the request.
    is_dropped : bool
        Set where the client is gone.
    queued, started, ended : float
        When it was queued, and when its batch ran, by ``time.monotonic``.
    """

    photos: Array
    deadline: float
    answer: asyncio.Future[Array]
    is_dropped: bool = False
    queued: float = field(default_factory=time.monotonic)
    started: float = 0
    ended: float = 0


class Batch(NamedTuple):
    """Work that runs together, why it left the queue, and what was dropped on the way."""

    work: list[Work]
    reason: str
    expired: list[Work]
    gone: list[Work]


class WorkQueue:
    """Work that waits for one engine, first come, first served. Its users hold the lane's lock."""

    def __init__(self) -> None:
        self._waiting: deque[Work] = deque()
        #: Photos that wait.
        self.photos = 0

    def add(self, work: Work) -> None:
        """Append work."""
        self._waiting.append(work)
        self.photos += len(work.photos)

    def take(self, limit: int, seconds: float, now: float) -> Batch:
        """The next batch: all waiting work up to a limit, such that no deadline passes while it runs.

        Parameters
        ----------
        limit : int
            Photos of a batch; the first work of a batch may have more.
        seconds : float
            How long a photo may run; 0 where that is not known.
        now : float
        """
        taken: list[Work] = []
        expired: list[Work] = []
        gone: list[Work] = []
        count, reason, earliest = 0, "engine_free", float("inf")
        while self._waiting:
            work = self._waiting[0]
            size = len(work.photos)
            if work.is_dropped or work.deadline <= now:
                (gone if work.is_dropped else expired).append(work)
            elif taken and count + size > limit:
                reason = "full"
                break
            elif taken and now + (count + size) * seconds > earliest:
                reason = "deadline"
                break
            else:
                taken.append(work)
                count += size
                earliest = min(earliest, work.deadline)
            self._waiting.popleft()
            self.photos -= size
        if reason == "engine_free" and count >= limit:
            reason = "full"
        return Batch(taken, reason, expired, gone)

    def __bool__(self) -> bool:
        return bool(self._waiting)
