"""The system under test and its photos, with the functions that LoadGen calls.

Photos lie in one array, logits in another, both for as long as a run lasts. For a batch it copies rows of photos, calls
the engine, takes the maximum of each row, and answers LoadGen in one call with addresses of the classes. For a single
photo Python only passes its number on.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from nybble.graph.types import Array
from nybble.mlperf.errors import MlperfError
from nybble.mlperf.store import Rows

#: uint8 photos (N, H, W, C) to logits (N, classes).
Run = Callable[[Array], Array]

#: A query comes here after LoadGen's clock for it has started; this part of the bound is kept for that.
_SLACK = 0.03
#: A larger batch must take less time per photo by this factor, since its first photos wait for the last.
_PAYS = 1.05


class Photos:
    """LoadGen's query sample library: the photos that it has asked to be in memory.

    Parameters
    ----------
    samples : ndarray or Rows
        uint8 (N, ...), all photos as they are prepared, mapped from a file.
    """

    def __init__(self, samples: Array | Rows) -> None:
        self._samples = samples
        self._rows = np.full(len(samples), -1, np.int64)
        self._loaded = np.empty((0, *samples.shape[1:]), np.uint8)

    def load(self, indices: Sequence[int]) -> None:
        """Copy photos into memory; LoadGen names some twice in MultiStream."""
        wanted = np.unique(np.asarray(indices, np.int64))
        self._loaded = self._samples[wanted]
        self._rows[:] = -1
        self._rows[wanted] = np.arange(len(wanted))

    def unload(self, indices: Sequence[int]) -> None:
        """Forget photos."""
        self._rows[np.asarray(indices, np.int64)] = -1

    def copy(self, indices: Sequence[int], out: Array) -> None:
        """Write loaded photos one behind the other. Raises :class:`MlperfError` for one that is not loaded."""
        rows = self._rows[np.asarray(indices, np.int64)]
        if len(rows) and rows.min() < 0:
            raise MlperfError(f"LoadGen asks for photo {indices[int(rows.argmin())]}, which it has not loaded")
        # "clip" because with checks of its own NumPy would copy twice.
        np.take(self._loaded, rows, axis=0, out=out, mode="clip")


class Answerer:
    """Runs batches and answers LoadGen.

    Parameters
    ----------
    loadgen : module
    run : callable
    photos : Photos
    shape : tuple of int
        Of a photo.
    batch : int
        Photos in a call of ``run`` at most.
    """

    def __init__(self, loadgen: Any, run: Run, photos: Photos, shape: tuple[int, ...], batch: int) -> None:
        self.answered = 0
        self.batch = batch
        self._complete = loadgen.QuerySamplesComplete
        self._run = run
        self._photos = photos
        self._inputs = np.empty((batch, *shape), np.uint8)
        self._classes = np.empty(batch, np.int32)
        size = self._classes.itemsize
        start = self._classes.ctypes.data
        self._responses = [loadgen.QuerySampleResponse(0, start + size * i, size) for i in range(batch)]

    def answer(self, ids: Sequence[int], indices: Sequence[int]) -> None:
        """Run photos, ``batch`` at a time, and tell LoadGen the class of each as int32."""
        for first in range(0, len(ids), self.batch):
            self._answer(ids[first : first + self.batch], indices[first : first + self.batch])

    def _answer(self, ids: Sequence[int], indices: Sequence[int]) -> None:
        count = len(ids)
        inputs = self._inputs[:count]
        self._photos.copy(indices, inputs)
        # The lower class wins a tie, as in `nybble evaluate`.
        self._classes[:count] = self._run(inputs).reshape(count, -1).argmax(axis=1)
        responses = self._responses[:count]
        for response, number in zip(responses, ids, strict=True):
            response.id = number
        # LoadGen has copied the classes when this returns.
        self._complete(responses)
        self.answered += count


class _Waiting(NamedTuple):
    number: int
    photo: int
    since: float


class Batcher:
    """Gathers single queries (Server) into batches that keep the latency bound.

    No query waits for a batch to fill. Of the queries that arrived while the engine was busy, a batch takes the number
    with the least time per photo, limited so that the oldest query keeps the bound. A query that can no longer keep the
    bound waits until nothing else is left, since it would make those behind it late as well.

    Parameters
    ----------
    answer : callable
        Takes ids and indices, returns when they are answered.
    seconds : sequence of float
        How long a batch of 1, 2, 3... photos takes; the length is the largest batch.
    bound : float
        Seconds from a query to its answer.
    failed : callable
        Told an error of ``answer``, after which nothing is answered any more.
    most_late : int, optional
        ``hopeless`` is called with the number of late queries once they are more than that.
    hopeless : callable

    Attributes
    ----------
    late : int
        Queries that were answered after the bound.
    """

    def __init__(
        self,
        answer: Callable[[Sequence[int], Sequence[int]], None],
        seconds: Sequence[float],
        bound: float,
        failed: Callable[[BaseException], None],
        most_late: int | None = None,
        hopeless: Callable[[int], None] = lambda late: None,
    ) -> None:
        self.late = 0
        self._answer = answer
        self._seconds = list(seconds)
        self._pace = 1.0
        self._bound = bound * (1 - _SLACK)
        self._failed = failed
        self._most_late = most_late
        self._hopeless = hopeless
        self._queue: deque[_Waiting] = deque()
        self._too_late: deque[_Waiting] = deque()
        self._changed = threading.Condition()
        self._open = True
        self._thread = threading.Thread(target=self._work, name="nybble-server", daemon=True)
        self._thread.start()

    def issue(self, ids: Sequence[int], indices: Sequence[int]) -> None:
        """Take queries; returns at once."""
        now = time.perf_counter()
        with self._changed:
            self._queue.extend(_Waiting(number, index, now) for number, index in zip(ids, indices, strict=True))
            self._changed.notify()

    def close(self) -> None:
        """Answer what is left and end."""
        with self._changed:
            self._open = False
            self._changed.notify()
        self._thread.join()

    def size(self, waiting: int, oldest: float) -> int:
        """How many of so many waiting queries go together; the oldest has waited for ``oldest`` seconds."""
        left = (self._bound - oldest) / self._pace
        best = 1
        for count in range(2, min(waiting, len(self._seconds)) + 1):
            seconds = self._seconds[count - 1]
            if seconds <= left and count * self._seconds[best - 1] > _PAYS * best * seconds:
                best = count
        return best

    def _next(self) -> list[_Waiting]:
        """The next batch; empty when all is answered."""
        with self._changed:
            while not self._queue and not self._too_late and self._open:
                self._changed.wait()
            now = time.perf_counter()
            while self._queue and now - self._queue[0].since > self._bound - self._pace * self._seconds[0]:
                self._too_late.append(self._queue.popleft())
            if not self._queue:
                # One at a time: the next query may come at any moment.
                return [self._too_late.popleft()] if self._too_late else []
            count = self.size(len(self._queue), now - self._queue[0].since)
            return [self._queue.popleft() for _ in range(count)]

    def _work(self) -> None:
        try:
            while batch := self._next():
                begun = time.perf_counter()
                self._answer([one.number for one in batch], [one.photo for one in batch])
                ended = time.perf_counter()
                # The speed of a machine changes; a weight of a tenth follows it but smooths short disturbances.
                self._pace += 0.1 * ((ended - begun) / self._seconds[len(batch) - 1] - self._pace)
                self.late += sum(ended - one.since > self._bound for one in batch)
                if self._most_late is not None and self.late > self._most_late:
                    self._hopeless(self.late)
        except BaseException as error:
            self._failed(error)
