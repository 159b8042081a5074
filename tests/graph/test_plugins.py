"""Work that is done once, whoever asks for it."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from nybble.graph.plugins import Once


def test_threads_wait_for_the_one_that_works() -> None:
    done: list[int] = []

    def work() -> None:
        time.sleep(0.05)
        done.append(1)

    once = Once(work)

    def ask(_: int) -> int:
        once()
        return len(done)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))) == [1] * 8


def test_a_call_from_within_returns() -> None:
    calls: list[int] = []

    def work() -> None:
        calls.append(len(calls))
        once()

    once = Once(work)
    once()
    once()
    assert calls == [0]


def test_work_that_raises_is_done_again() -> None:
    attempts: list[int] = []

    def work() -> None:
        attempts.append(1)
        if len(attempts) == 1:
            raise ValueError("not yet")

    once = Once(work)
    with pytest.raises(ValueError, match="not yet"):
        once()
    once()
    once()
    assert len(attempts) == 2
