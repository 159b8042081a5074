from __future__ import annotations

import ctypes
import itertools
import threading
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from nybble.mlperf.errors import MlperfError
from nybble.mlperf.peak import PRECISION, find_peak
from nybble.mlperf.sut import Answerer, Batcher, Photos


class Response:
    def __init__(self, number: int, data: int, size: int) -> None:
        self.id, self.data, self.size = number, data, size


def fake_loadgen() -> Any:
    """What LoadGen would read from the addresses it is given, at the time of the call."""
    state = SimpleNamespace(QuerySampleResponse=Response, calls=[])

    def complete(responses: list[Response]) -> None:
        assert all(one.size == 4 for one in responses)
        state.calls.append([(one.id, ctypes.c_int32.from_address(one.data).value) for one in responses])

    state.QuerySamplesComplete = complete
    return state


def test_each_batch_is_answered_by_one_call_with_addresses() -> None:
    samples = np.arange(40, dtype=np.uint8).reshape(10, 2, 2, 1)
    photos = Photos(samples)
    photos.load([7, 1, 3, 1])
    sizes = []

    def run(x: Any) -> Any:
        sizes.append(len(x))
        return np.eye(64, dtype=np.float32)[x[:, 0, 0, 0]]  # The class is the first pixel.

    loadgen = fake_loadgen()
    answerer = Answerer(loadgen, run, photos, (2, 2, 1), batch=2)
    answerer.answer([100, 101, 102, 103, 104], [3, 1, 7, 7, 3])
    assert sizes == [2, 2, 1]
    assert loadgen.calls == [[(100, 12), (101, 4)], [(102, 28), (103, 28)], [(104, 12)]]
    assert answerer.answered == 5
    with pytest.raises(MlperfError, match="photo 2, which it has not loaded"):
        answerer.answer([1], [2])
    photos.unload([3])
    with pytest.raises(MlperfError, match="photo 3"):
        answerer.answer([1], [3])


def test_batches_are_as_large_as_pays_within_the_bound() -> None:
    batcher = Batcher(lambda *_: None, [0.010, 0.017, 0.022, 0.034], 0.031, pytest.fail)
    assert batcher.size(1, 0.0) == 1
    assert batcher.size(9, 0.0) == 3
    assert batcher.size(2, 0.0) == 2
    assert batcher.size(9, 0.010) == 2
    assert batcher.size(9, 0.019) == 1
    batcher.close()
    # Two that take as long as one and one.
    batcher = Batcher(lambda *_: None, [0.010, 0.020], 1.0, pytest.fail)
    assert batcher.size(9, 0.0) == 1
    batcher.close()


def test_queries_that_are_too_late_do_not_make_others_late() -> None:
    answered: list[int] = []
    free, told = threading.Event(), threading.Event()

    def answer(ids: Any, indices: Any) -> None:
        free.wait(5)
        answered.extend(ids)

    batcher = Batcher(answer, [0.001, 0.003], 0.2, pytest.fail, 2, lambda late: told.set())
    for number in range(3):
        batcher.issue([number], [0])
    time.sleep(0.3)  # Number 0 is under way, 1 and 2 wait; all are too late then.
    batcher.issue([3], [0])
    free.set()
    batcher.close()
    assert answered == [0, 3, 1, 2]
    assert batcher.late == 3
    assert told.is_set()


def test_every_query_is_answered_once_in_order() -> None:
    answered: list[int] = []
    begun = threading.Event()

    def answer(ids: Any, indices: Any) -> None:
        begun.wait(5)
        answered.extend(ids)

    batcher = Batcher(answer, [0.001] * 4, 1.0, pytest.fail)
    for number in range(50):
        batcher.issue([number], [0])
    begun.set()
    batcher.close()
    assert answered == list(range(50))


def test_an_error_of_the_engine_is_told() -> None:
    told: list[BaseException] = []
    done = threading.Event()

    def answer(*_: Any) -> None:
        raise ValueError("broken")

    batcher = Batcher(answer, [0.001], 1.0, lambda error: (told.append(error), done.set()))  # type: ignore[func-returns-value]
    batcher.issue([1], [0])
    assert done.wait(5)
    assert str(told[0]) == "broken"


@pytest.mark.parametrize("limit", [15.0, 42.0, 77.0, 104.0, 500.0])
def test_the_peak_is_found_within_the_precision(limit: float) -> None:
    tried: list[float] = []

    def holds(rate: float) -> bool:
        tried.append(rate)
        return rate <= limit

    found = find_peak(holds, 100.0)
    assert found <= limit
    assert found >= min(limit, 110.0) * (1 - 2 * PRECISION)
    assert len(tried) < 20
    # A machine that stops for a moment at every other trial changes nothing.
    stops = itertools.cycle((True, False))
    assert find_peak(lambda rate: not next(stops) and rate <= limit, 100.0) == found


def test_a_search_ends_in_time() -> None:
    now = 0.0

    def holds(rate: float) -> bool:
        nonlocal now
        now += 10
        return rate < 50

    assert find_peak(holds, 100.0, seconds=35, clock=lambda: now) == 45.0
    now = 0.0
    with pytest.raises(MlperfError, match=r"not even 60\.00"):
        find_peak(lambda rate: holds(100), 100.0, seconds=15, clock=lambda: now)


def test_a_bound_that_nothing_keeps_is_an_error() -> None:
    with pytest.raises(MlperfError, match=r"raise Server\.target_latency"):
        find_peak(lambda rate: False, 100.0)
