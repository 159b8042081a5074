"""The threads that run networks."""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from nybble.backends.cpu.turns import limit_turn
from nybble.graph.types import Array
from nybble.serve.errors import ExpiredError, FailedError
from nybble.serve.metrics import Metrics
from nybble.serve.work import Batch, Work, WorkQueue

#: How long a network whose queue never empties keeps the engine's threads while another one, whose queue empties, waits
#: for them. They are then passed on between two steps. Two networks of the first kind take turns of 50 ms, as all
#: engines do.
OVERLOADED_SECONDS = 0.003
#: For this time after a request to another network, a network whose queue never empties uses short turns. That delays
#: its own batches, which also yield to threads that decode.
CONSIDERATE_SECONDS = 60.0
#: The weight of the newest batch in the mean of a photo's seconds.
_NEWEST = 0.2

_log = logging.getLogger("nybble.serve")


class Lane:
    """One network's work.

    A batch runs on all threads. If so many photos wait that each thread could have a batch, batches run on one thread
    each: no thread then waits for another one, which matters where other work takes processors. One more waits in the
    engine, so that a thread goes on at once, whatever holds Python meanwhile.

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
    single : callable or None
        As ``run``, on one thread.
    width : int
        Threads that ``run`` has, where ``single`` is there.
    seconds : float
        Recent mean time of a photo while no other network ran; 0 before the first batch.
    running : int
        Batches under way.
    asked : float
        When work last arrived.
    """

    def __init__(
        self,
        name: str,
        run: Callable[[Array], Array],
        limit: int,
        *,
        join: Callable[[Sequence[Array]], Array] = np.concatenate,
        dearest: Callable[[], float] = lambda: 0.0,
        single: Callable[[Array], Array] | None = None,
        width: int = 1,
    ) -> None:
        self.name = name
        self.run = run
        self.limit = limit
        self.join = join
        self.single = single
        self.width = width if single else 1
        #: Guards the queue and tells of changes.
        self.changed = threading.Condition()
        self.queue = WorkQueue()
        self.seconds = 0.0
        self.running = 0
        self.asked = float("-inf")
        self.is_ended = False
        self._is_split = False
        self._dearest = dearest

    @property
    def longest(self) -> float:
        """Seconds that a photo may take, for limits and deadlines."""
        return max(self.seconds, self._dearest())

    @property
    def may_leave(self) -> bool:
        """Whether a batch may start: nothing runs, or it is full and gets a thread, or may wait for one."""
        if not self.running:
            return bool(self.queue)
        enough = self.limit if self._is_split else self.width * self.limit
        return self.running <= self.width and self.queue.photos >= enough

    def take(self) -> Leaving:
        """The next batch. Under the lock, as is :meth:`ended`."""
        self._is_split = self.running > 0 or self.queue.photos >= self.width * self.limit
        self.running += 1
        batch = self.queue.take(self.limit, self.running * self.longest, time.monotonic())
        if self.may_leave:
            self.changed.notify()
        run = self.single if self._is_split and self.single else self.run
        return Leaving(batch, run, self.running, bool(self.queue))

    def ended(self) -> None:
        """Note that a batch is no longer under way."""
        self.running -= 1
        if self.is_ended:
            self.changed.notify_all()
        elif self.may_leave:
            self.changed.notify()

    def ran(self, photos: int, seconds: float) -> None:
        """Note how long a batch took, divided by the batches that were under way."""
        self.seconds = mean_with(self.seconds, seconds / photos)


class Leaving(NamedTuple):
    """A batch that leaves the queue, what runs it, how many are then under way, and whether work waits behind it."""

    batch: Batch
    run: Callable[[Array], Array]
    running: int
    is_overloaded: bool


def mean_with(before: float, newest: float) -> float:
    """A moving mean of seconds; ``before`` is 0 if there is none yet."""
    return (1 - _NEWEST) * before + _NEWEST * newest if before else newest


class Processor:
    """Runs the work of each lane on threads of its own.

    A batch leaves as soon as the one before it has run. A run takes all processors, so the engine lets runs of several
    networks take turns, which are short for a network whose queue does not empty: another one then waits for little
    more than its own work.
    """

    def __init__(self, metrics: Metrics, loop: asyncio.AbstractEventLoop) -> None:
        self._metrics = metrics
        self._loop = loop
        self._lock = threading.Lock()
        self._lanes: dict[Lane, list[threading.Thread]] = {}

    def add(self, lane: Lane) -> None:
        """Serve a lane from now on."""
        threads = [
            threading.Thread(target=self._work, args=(lane,), name=f"nybble-run-{lane.name}", daemon=True)
            for _ in range(lane.width + 1)
        ]
        with self._lock:
            self._lanes[lane] = threads
        self._metrics.queued.labels(lane.name).set_function(functools.partial(self._waiting, lane.name))
        for thread in threads:
            thread.start()

    def remove(self, lane: Lane) -> None:
        """Forget a lane, which has no work but what was dropped."""
        with self._lock:
            del self._lanes[lane]
        _end(lane)

    def submit(self, lane: Lane, work: Work) -> None:
        """Queue work; its answer is set when it has run, or to the error."""
        with lane.changed:
            lane.queue.add(work)
            lane.asked = work.queued
            # A thread that is woken for nothing takes the processor from one that runs.
            if lane.may_leave:
                lane.changed.notify()

    def stop(self) -> None:
        """Run what is queued, then end the threads."""
        with self._lock:
            lanes = dict(self._lanes)
        for lane in lanes:
            _end(lane)
        for threads in lanes.values():
            for thread in threads:
                thread.join()

    def _work(self, lane: Lane) -> None:
        while True:
            with lane.changed:
                lane.changed.wait_for(lambda: lane.may_leave or (lane.is_ended and not lane.queue))
                if not lane.queue:
                    return
                leaving = lane.take()
            limit_turn(OVERLOADED_SECONDS if leaving.is_overloaded and self._has_neighbours(lane) else None)
            self._drop(lane, leaving.batch)
            self._run(lane, leaving)

    def _has_neighbours(self, lane: Lane) -> bool:
        """Whether other networks are asked, too."""
        since = time.monotonic() - CONSIDERATE_SECONDS
        with self._lock:
            return any(other is not lane and other.asked > since for other in self._lanes)

    def _waiting(self, name: str) -> int:
        """Photos that wait for a model, in all its versions."""
        with self._lock:
            return sum(lane.queue.photos for lane in self._lanes if lane.name == name)

    def _run(self, lane: Lane, leaving: Leaving) -> None:
        batch, logits = leaving.batch, None
        started = time.monotonic()
        size = sum(len(work.photos) for work in batch.work)
        try:
            if batch.work:
                parts = [work.photos for work in batch.work]
                logits = leaving.run(parts[0] if len(parts) == 1 else lane.join(parts))
        except Exception:
            # Requests are checked before they are queued: an exception here is a bug, which must not end the thread.
            _log.exception("a batch failed", extra={"model": lane.name, "photos": size})
            self._settle([(work, FailedError("the network failed; see the server's log")) for work in batch.work])
        ended = time.monotonic()
        with lane.changed:
            lane.ended()
            if logits is None:
                return
            lane.ran(size, (ended - started) / leaving.running)
        self._observe(lane, batch, size, ended - started)
        answers: list[tuple[Work, Array | Exception]] = []
        first = 0
        for work in batch.work:
            work.started, work.ended = started, ended
            answers.append((work, logits[first : first + len(work.photos)]))
            first += len(work.photos)
        self._settle(answers)

    def _observe(self, lane: Lane, batch: Batch, photos: int, seconds: float) -> None:
        now = time.monotonic()
        waits = [now - seconds - work.queued for work in batch.work]
        self._metrics.note_batch(lane.name, batch.reason, photos, seconds, waits)

    def _drop(self, lane: Lane, batch: Batch) -> None:
        for reason, dropped in (("expired", batch.expired), ("client_gone", batch.gone)):
            if dropped:
                self._metrics.dropped.labels(lane.name, reason).inc(len(dropped))
        self._settle([(work, ExpiredError("the request timed out before it ran")) for work in batch.expired])

    def _settle(self, answers: list[tuple[Work, Array | Exception]]) -> None:
        """Set answers in the loop that waits for them, in one call."""
        if answers and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(_set, answers)


def _end(lane: Lane) -> None:
    with lane.changed:
        lane.is_ended = True
        lane.changed.notify_all()


def _set(answers: list[tuple[Work, Array | Exception]]) -> None:
    for work, answer in answers:
        if work.answer.done():
            continue
        if isinstance(answer, Exception):
            work.answer.set_exception(answer)
        else:
            work.answer.set_result(answer)
