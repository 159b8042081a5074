"""What leaves the queue together, when, and why."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

from nybble.serve.metrics import Metrics
from nybble.serve.processor import Lane, Processor
from nybble.serve.work import Work, WorkQueue


def work(photos: int, deadline: float = 1000.0) -> Work:
    return Work(np.zeros((photos, 1, 1, 1), np.uint8), deadline, Mock())


def queue(*entries: Work) -> WorkQueue:
    made = WorkQueue()
    for entry in entries:
        made.add(entry)
    return made


@pytest.mark.parametrize(
    ("sizes", "limit", "shared", "taken", "reason"),
    [
        ([1], 8, 8, 1, "engine_free"),
        ([1, 2, 3], 8, 8, 3, "engine_free"),
        ([4, 4, 1], 8, 8, 2, "full"),
        ([4, 3, 2], 8, 8, 2, "full"),
        ([1, 1, 1], 8, 2, 2, "shared"),
        ([4, 1], 8, 1, 1, "shared"),
        ([8], 8, 8, 1, "full"),
    ],
)
def test_a_batch_takes_what_waits(sizes: list[int], limit: int, shared: int, taken: int, reason: str) -> None:
    waiting = queue(*map(work, sizes))
    batch = waiting.take(limit, shared, 0.0, 0.0)
    assert (len(batch.work), batch.reason) == (taken, reason)
    assert waiting.photos == sum(sizes[taken:])


def test_a_batch_does_not_outlast_a_member() -> None:
    # Three photos would run for 0.3 seconds; the first has 0.25 left.
    batch = queue(work(1, 10.25), work(1), work(1)).take(8, 8, 0.1, 10.0)
    assert (len(batch.work), batch.reason) == (2, "deadline")


def test_what_nobody_waits_for_does_not_run() -> None:
    late, gone, good = work(1, 9.0), work(1), work(1)
    gone.is_dropped = True
    batch = queue(late, gone, good).take(8, 8, 0.0, 10.0)
    assert (batch.work, batch.expired, batch.gone) == ([good], [late], [gone])


def test_lanes_take_turns_in_short_batches() -> None:
    """A network whose queue is long does not keep another one waiting for more than a short batch."""
    order: list[tuple[str, int]] = []
    started, go_on = threading.Event(), threading.Event()

    def run(name: str) -> Any:
        def runs(photos: Any) -> Any:
            started.set()
            assert go_on.wait(10)
            order.append((name, len(photos)))
            time.sleep(0.005 * len(photos))
            return photos.reshape(len(photos), -1)

        return runs

    async def both() -> None:
        processor = Processor(Metrics(), asyncio.get_running_loop())
        busy, quiet = Lane("busy", run("busy"), 8), Lane("quiet", run("quiet"), 8)
        processor.add(busy)
        processor.add(quiet)
        loop = asyncio.get_running_loop()
        futures = []
        for lane, count in ((busy, 24), (quiet, 2)):
            for _ in range(count):
                futures.append(loop.create_future())
                entry = Work(np.zeros((1, 1, 1, 1), np.uint8), time.monotonic() + 60, futures[-1])
                processor.submit(lane, entry)
            started.wait(10)
        go_on.set()
        await asyncio.wait_for(asyncio.gather(*futures), 30)
        await asyncio.to_thread(processor.stop)

    asyncio.run(both())
    assert sum(count for name, count in order if name == "busy") == 24
    # After the batch that ran when nobody else was there, the other network is next.
    assert [name for name, _ in order].index("quiet") <= 1
    # While both have work, no batch of five milliseconds a photo is longer than three photos.
    until = max(place for place, (name, _) in enumerate(order) if name == "quiet")
    assert all(count <= 3 for _, count in order[1 : until + 1])


def test_deadlines_reckon_with_the_dearest_photos() -> None:
    """Photos ran fast so far, but one may take ten seconds: two together could outlast a member with 15 left."""
    sizes: list[int] = []
    go_on = threading.Event()

    def run(photos: Any) -> Any:
        assert go_on.wait(10)
        sizes.append(len(photos))
        return photos.reshape(len(photos), -1)

    async def all_three() -> None:
        loop = asyncio.get_running_loop()
        processor = Processor(Metrics(), loop)
        lane = Lane("lane", run, 8, dearest=lambda: 10.0)
        processor.add(lane)
        futures = [loop.create_future() for _ in range(3)]
        for future in futures:
            processor.submit(lane, Work(np.zeros((1, 1, 1, 1), np.uint8), time.monotonic() + 15, future))
        go_on.set()
        await asyncio.gather(*futures)
        await asyncio.to_thread(processor.stop)

    asyncio.run(all_three())
    assert sizes == [1, 1, 1]


def test_a_failing_network_fails_its_requests_only() -> None:
    async def fails() -> None:
        processor = Processor(Metrics(), asyncio.get_running_loop())
        outcomes = [RuntimeError("broken"), None]

        def run(photos: Any) -> Any:
            error = outcomes.pop(0)
            if error:
                raise error
            return photos.reshape(len(photos), -1)

        lane = Lane("lane", run, 8)
        processor.add(lane)
        first, second = (asyncio.get_running_loop().create_future() for _ in range(2))
        processor.submit(lane, Work(np.zeros((1, 1, 1, 1), np.uint8), time.monotonic() + 60, first))
        with pytest.raises(Exception, match="the network failed"):
            await first
        processor.submit(lane, Work(np.zeros((1, 1, 1, 1), np.uint8), time.monotonic() + 60, second))
        assert (await second).shape == (1, 1)
        await asyncio.to_thread(processor.stop)

    asyncio.run(fails())
