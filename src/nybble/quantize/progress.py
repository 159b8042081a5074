"""How long-running functions tell their caller how far they are."""

from __future__ import annotations

from collections.abc import Callable

#: Called with what is being done, how much of it is done, and how much there is (``None``: not known). A command
#: shows it as a bar; see ``nybble.cli.output.callback``.
Progress = Callable[[str, int, int | None], None]


def silent(what: str, done: int, total: int | None) -> None:
    """Show nothing."""
