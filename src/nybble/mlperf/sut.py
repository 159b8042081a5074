"""The system under test and its photos: what LoadGen calls.

Photos lie in one array, logits in another, both for as long as a run lasts. A batch is a copy of rows from the one, a
call of the engine, a maximum a row, and one call that answers LoadGen with addresses of the classes found. What Python
does for a single photo is to hand its number on.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from nybble.graph.types import Array
from nybble.mlperf.errors import MlperfError

#: uint8 photos (N, H, W, C) to logits (N, classes).
Run = Callable[[Array], Array]


class Photos:
    """LoadGen's query sample library: the photos that it has asked to be in memory.

    Parameters
    ----------
    samples : ndarray
        uint8 (N, H, W, C), all photos, mapped from a file.
    """

    def __init__(self, samples: Array) -> None:
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
    """Gathers single queries (Server) into batches, as large as the latency bound allows.

    Nothing waits for a batch to fill: whatever has come while the engine was busy goes together, but no more than
    lets the oldest query keep the bound. Where it cannot keep it any more, as many go as there are, to catch up.

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
    """

    def __init__(
        self,
        answer: Callable[[Sequence[int], Sequence[int]], None],
        seconds: Sequence[float],
        bound: float,
        failed: Callable[[BaseException], None],
    ) -> None:
        self._answer = answer
        self._seconds = list(seconds)
        self._bound = bound
        self._failed = failed
        self._queue: deque[_Waiting] = deque()
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
        most = min(waiting, len(self._seconds))
        left = self._bound - oldest
        if self._seconds[0] > left:
            return most
        return max(count for count in range(1, most + 1) if self._seconds[count - 1] <= left or count == 1)

    def _work(self) -> None:
        try:
            while True:
                with self._changed:
                    while not self._queue and self._open:
                        self._changed.wait()
                    if not self._queue:
                        return
                    count = self.size(len(self._queue), time.perf_counter() - self._queue[0].since)
                    batch = list(islice(self._queue, count))
                    for _ in batch:
                        self._queue.popleft()
                begun = time.perf_counter()
                self._answer([one.number for one in batch], [one.photo for one in batch])
                # Machines change their pace; a tenth of what is new follows it without following every hiccup.
                known = self._seconds[count - 1]
                self._seconds[count - 1] = known + 0.1 * (time.perf_counter() - begun - known)
        except BaseException as error:
            self._failed(error)
