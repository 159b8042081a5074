"""How far a command is: bars on standard error, gone when done; nothing where that is not a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from nybble.progress import Progress

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID


@contextmanager
def one_bar(*, size: bool = False, rate: bool = False) -> Iterator[Progress]:
    """Show the work under way as one bar; ``size`` counts bytes instead of photos, ``rate`` shows photos per second.

    If the work changes, the estimate of the remaining time starts again, unless the total is the same and no less is
    done: then both are parts of one work.
    """
    with _bars(size=size, rate=rate) as bars:
        task: TaskID | None = None
        at: tuple[str, int, int | None] = ("", 0, None)

        def show(what: str, done: int, total: int | None, /) -> None:
            nonlocal task, at
            if task is not None and (total != at[2] or (what != at[0] and done < at[1])):
                bars.remove_task(task)
                task = None
            if task is None:
                task = bars.add_task(what, total=total)
            bars.update(task, description=what, completed=done)
            at = (what, done, total)

        yield show


@contextmanager
def nested_bars() -> Iterator[Progress]:
    """Show each work as a bar of its own, removed once it is done: one may go on while another is under way."""
    with _bars(size=False) as bars:
        tasks: dict[str, TaskID] = {}

        def show(what: str, done: int, total: int | None, /) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total)
            if total is not None and done >= total:
                bars.remove_task(tasks.pop(what))

        yield show


def _bars(*, size: bool, rate: bool = False) -> Bars:
    from rich import progress
    from rich.console import Console
    from rich.text import Text

    class Rate(progress.ProgressColumn):
        """Photos per second."""

        def render(self, task: progress.Task) -> Text:
            return Text("" if task.speed is None else f"{task.speed:.1f}/s", style="progress.data.speed")

    console = Console(stderr=True)
    # Some versions of rich end even a disabled bar with a blank line.
    console.quiet = not console.is_terminal
    amount = progress.DownloadColumn() if size else progress.MofNCompleteColumn()
    rates = (Rate(),) if rate else ()
    left = progress.TimeRemainingColumn()
    columns = (progress.TextColumn("{task.description}"), progress.BarColumn(), amount, *rates, left)
    return progress.Progress(*columns, console=console, disable=console.quiet, transient=True)
