"""What other packages declare by entry points."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nybble.graph.errors import NybbleError


class PluginError(NybbleError, ValueError):
    """Something that cannot be registered or loaded; the text names it and says why."""


def declared(group: str, kind: type[Any]) -> Iterator[Any]:
    """The objects that the entry points of a group name, each an instance of ``kind``.

    A search of all packages takes time, so callers put it off until they miss something.

    Raises
    ------
    PluginError
        Naming an entry point that cannot be loaded, or names something else than a ``kind``.
    """
    # Costs 10 ms to import.
    from importlib.metadata import entry_points

    for entry in entry_points(group=group):
        origin = f"the entry point {entry.name!r} of {group} ({entry.value})"
        try:
            found = entry.load()
        except (ImportError, AttributeError) as error:
            raise PluginError(f"{origin} cannot be loaded: {error}") from error
        if not isinstance(found, kind):
            raise PluginError(f"{origin} names a {type(found).__name__}, not a {kind.__name__}")
        yield found
