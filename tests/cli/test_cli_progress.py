"""Which bars there are while commands tell how far they are."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from rich.progress import Progress as Bars

from nybble.cli import progress
from nybble.progress import counted


@pytest.fixture
def bars(monkeypatch: pytest.MonkeyPatch) -> Bars:
    """Those that the commands make, shown nowhere."""
    made = Bars(disable=True)
    monkeypatch.setattr(progress, "_bars", lambda *, size, rate=False: made)
    return made


def shown(bars: Bars) -> list[tuple[str, float, float | None]]:
    return [(task.description, task.completed, task.total) for task in bars.tasks]


def test_one_bar_shows_the_work_under_way(bars: Bars) -> None:
    with progress.one_bar() as tell:
        assert shown(bars) == []
        for at in (("loading", 0, 2), ("loading", 2, 2), ("rounds", 0, None), ("rounds", 7, None), ("last", 0, 4)):
            tell(*at)
            assert shown(bars) == [at]


def test_parts_of_one_work_share_a_bar(bars: Bars) -> None:
    with progress.one_bar() as tell:
        tell("tuning method", 1, 8)
        first = bars.task_ids
        tell("tuning tile_pixels", 2, 8)
        assert (bars.task_ids, shown(bars)) == (first, [("tuning tile_pixels", 2, 8)])
        tell("tuning tile_pixels", 1, 8)
        assert bars.task_ids == first
        tell("another of the same size", 0, 8)
        assert bars.task_ids != first


def test_nested_work_has_bars_of_its_own_until_it_is_done(bars: Bars) -> None:
    with progress.nested_bars() as tell:
        tell("epoch", 3, 10)
        tell("evaluating", 0, None)
        assert shown(bars) == [("epoch", 3, 10), ("evaluating", 0, None)]
        tell("evaluating", 5, 5)
        tell("epoch", 4, 10)
        assert shown(bars) == [("epoch", 4, 10)]


def test_counted_items_are_told_when_they_are_done() -> None:
    told: list[tuple[str, int, int | None]] = []

    def items() -> Iterator[str]:
        yield from "ab"

    seen = [(item, len(told)) for item in counted(items(), "letters", 2, lambda *at: told.append(at))]
    assert seen == [("a", 1), ("b", 2)]
    assert told == [("letters", 0, 2), ("letters", 1, 2), ("letters", 2, 2)]
