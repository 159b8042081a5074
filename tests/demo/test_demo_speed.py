from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nybble.demo import Contestant, Speed, measure_in_turns

Engine = Callable[[Any], None]


def test_speed_is_the_median_of_turns_after_one_run_that_does_not_count() -> None:
    now = 0.0
    ran: list[tuple[str, list[int]]] = []

    def engine(name: str, costs: list[float]) -> Engine:
        left = iter(costs)

        def run(photos: Any) -> None:
            nonlocal now
            ran.append((name, photos[:, 0, 0, 0].tolist()))
            now += next(left)

        return run

    photos = np.arange(3, dtype=np.uint8).reshape(3, 1, 1, 1)
    slow = Contestant("slow", "8-bit", engine("slow", [9.0, 4.0, 4.0, 6.0, 2.0, 5.0, 4.0]), photos)
    fast = Contestant("fast", "4-bit", engine("fast", [9.0, 1.0, 3.0, 1.0, 2.0, 3.0, 2.0]), photos)
    assert measure_in_turns([slow, fast], 2, 30.0, clock=lambda: now) == [
        Speed("slow", "8-bit", 2, 2 / 4.0, 5),
        Speed("fast", "4-bit", 2, 2 / 2.0, 5),
    ]
    assert [name for name, _ in ran] == ["slow", "fast"] * 6
    # The warm-up and five rounds, each of which starts one photo later.
    assert [batch for name, batch in ran if name == "fast"] == [[0, 1], [0, 1], [1, 2], [2, 0], [0, 1], [1, 2]]


def test_it_goes_on_while_there_is_time() -> None:
    now = 0.0

    def run(_: Any) -> None:
        nonlocal now
        now += 1.0

    photos = np.zeros((1, 1, 1, 3), dtype=np.uint8)
    (speed,) = measure_in_turns([Contestant("x", "4-bit", run, photos)], 8, 10.0, clock=lambda: now)
    assert (speed.rounds, speed.images_per_second) == (10, 8.0)
