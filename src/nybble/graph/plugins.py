"""Extensions from outside: by registering them, or by entry points of other packages."""

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
    """Raised for an extension that cannot be registered or loaded; the text names it and says why."""


def declared(group: str, kind: type[Any]) -> Iterator[Any]:
    """The objects that the entry points of a group name, each an instance of ``kind``.

    A search of all packages takes time, so callers postpone it until a look-up fails.

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


class Once:
    """Work that is done once, at the first call. Other threads wait until it is complete.

    A call from within the work returns at once. Work that raises is repeated at the next call.
    """

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self._lock = RLock()
        self._is_done = self._is_under_way = False

    def __call__(self) -> None:
        """Return when the work is done."""
        if self._is_done:
            return
        with self._lock:
            if self._is_done or self._is_under_way:
                return
            self._is_under_way = True
            try:
                self._work()
                self._is_done = True
            finally:
                self._is_under_way = False


def declared_once(
    group: str, kind: type[Any], is_registered: Callable[[Any], bool], register: Callable[[Any], None]
) -> Once:
    """Registers, when it is called, what the entry points of a group name and what is not registered yet.

    Raises :class:`PluginError` as :func:`declared` does, and whatever ``register`` raises.
    """

    def work() -> None:
        for item in declared(group, kind):
            if not is_registered(item):
                register(item)

    return Once(work)


class Registry(Generic[K, T]):
    """The registered objects of one kind, by a key.

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
        self._key = key
        self._items: dict[K, T] = {}
        self._load_own = Once(self._import_modules)
        self._load_others = declared_once(group, kind, lambda item: self._items.get(key(item)) is item, self.register)

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
        self._load_own()
        if key not in self._items:
            self._load_others()
        return self._items.get(key)

    def _import_modules(self) -> None:
        for name in sorted(module.name for module in iter_modules(import_module(self._package).__path__)):
            import_module(f"{self._package}.{name}")
