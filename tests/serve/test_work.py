"""What leaves the queue together, when, and why."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

from nybble.serve import processor as processor_module
from nybble.serve.metrics import Metrics
from nybble.serve.processor import OVERLOADED_SECONDS, Lane, Processor
from nybble.serve.work import Work, WorkQueue


def work(photos: int, deadline: float = 1000.0) -> Work:
    return Work(np.zeros((photos, 1, 1, 1), np.uint8), deadline, Mock())


def queue(*entries: Work) -> WorkQueue:
    made = WorkQueue()
    for entry in entries:
        made.add(entry)
    return made


@pytest.mark.parametrize(
    ("sizes", "limit", "taken", "reason"),
    [
        ([1], 8, 1, "engine_free"),
        ([1, 2, 3], 8, 3, "engine_free"),
        ([4, 4, 1], 8, 2, "full"),
        ([4, 3, 2], 8, 2, "full"),
        ([8], 8, 1, "full"),
    ],
)
def test_a_batch_takes_what_waits(sizes: list[int], limit: int, taken: int, reason: str) -> None:
    waiting = queue(*map(work, sizes))
    batch = waiting.take(limit, 0.0, 0.0)
    assert (len(batch.work), batch.reason) == (taken, reason)
    assert waiting.photos == sum(sizes[taken:])


def test_a_batch_does_not_outlast_a_member() -> None:
    # Three photos would run for 0.3 seconds; the first has 0.25 left.
    batch = queue(work(1, 10.25), work(1), work(1)).take(8, 0.1, 10.0)
    assert (len(batch.work), batch.reason) == (2, "deadline")


def test_what_nobody_waits_for_does_not_run() -> None:
    late, gone, good = work(1, 9.0), work(1), work(1)
    gone.is_dropped = True
    batch = queue(late, gone, good).take(8, 0.0, 10.0)
    assert (batch.work, batch.expired, batch.gone) == ([good], [late], [gone])


def test_a_network_does_not_wait_for_anothers_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each runs on its own thread; while its queue does not empty, its runs pass the engine's threads on early."""
    turns: dict[str, list[float | None]] = {}

    def note(seconds: float | None) -> None:
        turns.setdefault(threading.current_thread().name.removeprefix("nybble-run-"), []).append(seconds)

    monkeypatch.setattr(processor_module, "limit_turn", note)
    entered, go_on = threading.Event(), threading.Event()

    def held(photos: Any) -> Any:
        entered.set()
        assert go_on.wait(30)
        return photos.reshape(len(photos), -1)

    async def both() -> None:
        loop = asyncio.get_running_loop()
        processor = Processor(Metrics(), loop)
        busy, quiet = Lane("busy", held, 8), Lane("quiet", lambda photos: photos.reshape(len(photos), -1), 8)
        processor.add(busy)
        processor.add(quiet)

        def submit(lane: Lane) -> asyncio.Future[Any]:
            future = loop.create_future()
            processor.submit(lane, Work(np.zeros((1, 1, 1, 1), np.uint8), time.monotonic() + 60, future))
            return future

        await asyncio.wait_for(submit(quiet), 30)
        held_ones = [submit(busy)]
        assert await asyncio.to_thread(entered.wait, 30)
        held_ones += [submit(busy) for _ in range(20)]
        # The other network's batch is under way and its queue is long.
        await asyncio.wait_for(submit(quiet), 30)
        go_on.set()
        await asyncio.wait_for(asyncio.gather(*held_ones), 30)
        await asyncio.to_thread(processor.stop)

    asyncio.run(both())
    # Batches of 1, 8, 8 and 4 photos.
    assert turns == {"busy": [None, OVERLOADED_SECONDS, OVERLOADED_SECONDS, None], "quiet": [None, None]}


def test_a_network_that_is_asked_alone_considers_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[float | None] = []
    monkeypatch.setattr(processor_module, "limit_turn", turns.append)

    async def alone() -> None:
        loop = asyncio.get_running_loop()
        processor = Processor(Metrics(), loop)
        lane, other = (Lane(name, lambda photos: photos.reshape(len(photos), -1), 1) for name in ("lane", "other"))
        other.asked = time.monotonic() - processor_module.CONSIDERATE_SECONDS
        processor.add(lane)
        processor.add(other)
        futures = [loop.create_future() for _ in range(10)]
        for future in futures:
            processor.submit(lane, Work(np.zeros((1, 1, 1, 1), np.uint8), time.monotonic() + 60, future))
        await asyncio.gather(*futures)
        await asyncio.to_thread(processor.stop)

    asyncio.run(alone())
    assert set(turns) == {None}


@pytest.mark.parametrize(
    ("width", "waiting", "entered"),
    [
        (1, 7, [("all", 1)]),
        (1, 8, [("all", 1), ("all", 8)]),
        (1, 30, [("all", 1), ("all", 8)]),
        (2, 15, [("all", 1)]),
        (2, 16, [("all", 1), ("single", 8), ("single", 8)]),
        (2, 40, [("all", 1), ("single", 8), ("single", 8)]),
    ],
)
def test_where_many_wait_each_thread_gets_a_batch(width: int, waiting: int, entered: list[tuple[str, int]]) -> None:
    """And one more waits in the engine; afterwards a batch runs on all threads again."""
    seen: list[tuple[str, int]] = []
    go_on = threading.Event()

    def runner(name: str) -> Any:
        def run(photos: Any) -> Any:
            seen.append((name, len(photos)))
            assert go_on.wait(30)
            return photos.reshape(len(photos), -1)

        return run

    async def all_of_them() -> None:
        loop = asyncio.get_running_loop()
        processor = Processor(Metrics(), loop)
        single = runner("single") if width > 1 else None
        lane = Lane("lane", runner("all"), 8, single=single, width=width)
        processor.add(lane)

        def submit() -> asyncio.Future[Any]:
            future = loop.create_future()
            processor.submit(lane, Work(np.zeros((1, 1, 1, 1), np.uint8), time.monotonic() + 60, future))
            return future

        async def wait_for(count: int) -> None:
            async with asyncio.timeout(30):
                while len(seen) < count:
                    await asyncio.sleep(0.001)

        futures = [submit()]
        await wait_for(1)
        futures += [submit() for _ in range(waiting)]
        await wait_for(len(entered))
        await asyncio.sleep(0.05)
        assert seen == entered
        go_on.set()
        await asyncio.gather(*futures)
        assert sum(photos for _, photos in seen) == 1 + waiting
        await submit()
        assert (seen[-1], lane.running) == (("all", 1), 0)
        await asyncio.to_thread(processor.stop)

    asyncio.run(all_of_them())


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
