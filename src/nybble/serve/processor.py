"""The one thread that runs networks: a batch of each that has work, in turn."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence

import numpy as np

from nybble.graph.types import Array
from nybble.serve.errors import ExpiredError, FailedError
from nybble.serve.metrics import Metrics
from nybble.serve.work import Batch, Work, WorkQueue

#: How long a batch may run while other networks have work, if a single photo does not take longer.
SHARED_SECONDS = 0.015
#: The weight of the newest batch in the mean of a photo's seconds.
_NEWEST = 0.2

_log = logging.getLogger("nybble.serve")


class Lane:
    """One network's work.

    Attributes
    ----------
    name : str
    run : callable
        Prepared photos, uint8 (N, ...), to the logits (N, classes).
    limit : int
        Photos of a batch.
    join : callable
        The photos of several works to those of a batch.
    dearest : callable
        Seconds that a photo may take where some take longer than others, as in a cascade; 0 where that is not known.
    seconds : float
        How long a photo took of late, in the mean; 0 before the first batch.
    """

    def __init__(
        self,
        name: str,
        run: Callable[[Array], Array],
        limit: int,
        *,
        join: Callable[[Sequence[Array]], Array] = np.concatenate,
        dearest: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.name = name
        self.run = run
        self.limit = limit
        self.join = join
        self.queue = WorkQueue()
        self.seconds = 0.0
        self.used = 0.0
        self._dearest = dearest

    @property
    def longest(self) -> float:
        """Seconds that a photo may take: what limits and deadlines reckon with."""
        return max(self.seconds, self._dearest())

    @property
    def shared_limit(self) -> int:
        """Photos of a batch while other networks have work."""
        longest = self.longest
        return max(1, min(self.limit, int(SHARED_SECONDS / longest))) if longest else 1

    def ran(self, photos: int, seconds: float) -> None:
        """Note how long a batch took."""
        self.seconds = mean_with(self.seconds, seconds / photos)

    def __call__(self, lane: Lane, batch: Batch, photos: int, seconds: float, /) -> None:
        """Note a batch."""


def mean_with(before: float, newest: float) -> float:
    """A mean of seconds that follows the newest ones; 0 before is none yet."""
    return (1 - _NEWEST) * before + _NEWEST * newest if before else newest


class Processor:
    """Runs the work of all lanes on one thread, since an engine keeps all processors busy by itself.

    A batch leaves as soon as the thread is free. Lanes take turns; while more than one of them has work, batches are
    cut to what runs in :data:`SHARED_SECONDS`, so that a network waits for little more than its own work.
    """

    def __init__(self, metrics: Metrics, loop: asyncio.AbstractEventLoop) -> None:
        self._metrics = metrics
        self._loop = loop
        self._changed = threading.Condition()
        self._lanes: list[Lane] = []
        self._turn = 0
        self._is_stopping = False
        self._thread = threading.Thread(target=self._work, name="nybble-run", daemon=True)
        self._thread.start()

    def add(self, lane: Lane) -> None:
        """Serve a lane from now on."""
        with self._changed:
            self._lanes.append(lane)

    def remove(self, lane: Lane) -> None:
        """Forget a lane, which has no work but what was dropped."""
        with self._changed:
            self._lanes.remove(lane)
            self._show(lane.name)

    def submit(self, lane: Lane, work: Work) -> None:
        """Queue work; its answer is set when it has run, or to the error."""
        with self._changed:
            lane.queue.add(work)
            self._show(lane.name)
            self._changed.notify()

    def stop(self) -> None:
        """Run what is queued, then end the thread."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_stopping or any(lane.queue for lane in self._lanes))
                lane = self._next()
                if lane is None:
                    return
                others = sum(1 for other in self._lanes if other.queue or self._is_active(other)) > 1
                shared = lane.shared_limit if others else lane.limit
                batch = lane.queue.take(lane.limit, shared, lane.longest, time.monotonic())
                self._show(lane.name)
            self._drop(lane, batch)
            if batch.work:
                self._run(lane, batch)

    def _show(self, name: str) -> None:
        """Set the gauge of what waits for a model, in all its versions."""
        self._metrics.queued.labels(name).set(sum(lane.queue.photos for lane in self._lanes if lane.name == name))

    def _is_active(self, lane: Lane) -> bool:
        """Whether a lane has run within the last second: its next work may arrive while another one runs."""
        return time.monotonic() - lane.used < 1

    def _next(self) -> Lane | None:
        """The lane whose turn it is, of those with work."""
        for step in range(len(self._lanes)):
            lane = self._lanes[(self._turn + step) % len(self._lanes)]
            if lane.queue:
                self._turn = (self._turn + step + 1) % len(self._lanes)
                return lane
        return None

    def _run(self, lane: Lane, batch: Batch) -> None:
        started = time.monotonic()
        size = sum(len(work.photos) for work in batch.work)
        try:
            parts = [work.photos for work in batch.work]
            logits = lane.run(parts[0] if len(parts) == 1 else lane.join(parts))
        except Exception:
            # Requests are checked before they are queued: whatever is raised here is a bug, which must not end the
            # thread.
            _log.exception("a batch failed", extra={"model": lane.name, "photos": size})
            self._settle([(work, FailedError("the network failed; the server's log says more")) for work in batch.work])
            return
        ended = lane.used = time.monotonic()
        lane.ran(size, ended - started)
        self._observe(lane, batch, size, ended - started)
        answers: list[tuple[Work, Array | Exception]] = []
        first = 0
        for work in batch.work:
            work.started, work.ended = started, ended
            answers.append((work, logits[first : first + len(work.photos)]))
            first += len(work.photos)
        self._settle(answers)

    def _observe(self, lane: Lane, batch: Batch, photos: int, seconds: float) -> None:
        metrics = self._metrics
        metrics.batches.labels(lane.name, batch.reason).inc()
        metrics.batch_photos.labels(lane.name).observe(photos)
        metrics.photos.labels(lane.name).inc(photos)
        metrics.stages.labels(lane.name, "run").observe(seconds)
        waited = metrics.stages.labels(lane.name, "queue")
        now = time.monotonic()
        for work in batch.work:
            waited.observe(now - seconds - work.queued)

    def _drop(self, lane: Lane, batch: Batch) -> None:
        for reason, dropped in (("expired", batch.expired), ("client_gone", batch.gone)):
            if dropped:
                self._metrics.dropped.labels(lane.name, reason).inc(len(dropped))
        self._settle([(work, ExpiredError("the request's time was over before it ran")) for work in batch.expired])

    def _settle(self, answers: list[tuple[Work, Array | Exception]]) -> None:
        """Set answers in the loop that waits for them, in one call."""
        if answers and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(_set, answers)


def _set(answers: list[tuple[Work, Array | Exception]]) -> None:
    for work, answer in answers:
        if work.answer.done():
            continue
        if isinstance(answer, Exception):
            work.answer.set_exception(answer)
        else:
            work.answer.set_result(answer)
