"""What can be added from outside: by registering it, or by entry points of other packages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from pkgutil import iter_modules
from threading import RLock
from typing import Any, Generic, TypeVar

from nybble.graph.errors import NybbleError

K = TypeVar("K")
T = TypeVar("T")


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


class Registry(Generic[K, T]):
    """What is registered of one kind, found by a key.

    Modules of nybble register when they are imported; the modules of ``package`` are imported, all of them, at the
    first look-up, so that a new one needs no list. Entry points of other packages are searched when a key is missing,
    since a search of all packages takes time.

    Parameters
    ----------
    kind : type
        What is registered.
    package : str
        The package of nybble whose modules register.
    group : str
        The entry points of other packages: each names an instance of ``kind``.
    key : callable
        The key of what is registered.
    """

    def __init__(self, kind: type[T], package: str, group: str, key: Callable[[T], K]) -> None:
        self._kind = kind
        self._package = package
        self._group = group
        self._key = key
        self._items: dict[K, T] = {}
        self._has_own = self._has_others = False
        # Until one thread has imported everything, others wait: half of it would look like all.
        self._loading = RLock()

    def register(self, item: T) -> None:
        """Make something known. Raises :class:`PluginError` if the key is taken."""
        key = self._key(item)
        known = self._items.get(key)
        if known is not None:
            what = key.__name__ if isinstance(key, type) else key
            raise PluginError(f"the {self._kind.__name__} of {what} is taken by {type(known).__module__}")
        self._items[key] = item

    def unregister(self, item: T) -> None:
        """Forget what :meth:`register` made known."""
        del self._items[self._key(item)]

    def get(self, key: K) -> T | None:
        """What is registered under a key, or ``None``."""
        if not self._has_own:
            with self._loading:
                for name in sorted(module.name for module in iter_modules(import_module(self._package).__path__)):
                    import_module(f"{self._package}.{name}")
                self._has_own = True
        if key not in self._items and not self._has_others:
            with self._loading:
                for item in declared(self._group, self._kind):
                    if self._items.get(self._key(item)) is not item:
                        self.register(item)
                self._has_others = True
        return self._items.get(key)
