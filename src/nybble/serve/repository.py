"""The models of a server: the index, the loaded ones, loading and unloading while it serves."""

from __future__ import annotations

import asyncio
import ctypes
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from nybble.graph import NybbleError
from nybble.models import is_ensemble, locate
from nybble.serve.errors import BadRequestError, NotFoundError
from nybble.serve.metrics import Metrics
from nybble.serve.processor import Processor
from nybble.serve.served import Served
from nybble.serve.settings import PHOTOS, ModelSettings

#: Seconds between two checks of whether the last request of a retired version has ended.
_LOOK = 0.02

_log = logging.getLogger("nybble.serve")


class State(NamedTuple):
    """A version in the index: ``READY``, ``UNAVAILABLE`` or ``LOADING``, and why."""

    name: str
    version: str
    state: str
    reason: str


class Repository:
    """The models that were named when the server was started, by name. Used from one event loop."""

    def __init__(
        self, sources: Mapping[str, ModelSettings], threads: int | None, processor: Processor, metrics: Metrics
    ) -> None:
        self._sources = dict(sources)
        self._threads = threads
        self._processor = processor
        self._metrics = metrics
        self._served: dict[str, dict[str, Served]] = {}
        self._why: dict[str, str] = {}
        self._locks = {name: asyncio.Lock() for name in self._sources}
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def is_ready(self) -> bool:
        """Whether every model is loaded, except those that a client unloaded."""
        return all(name in self._served or self._why.get(name) == _UNLOADED for name in self._sources)

    def names(self) -> list[str]:
        """The models that are loaded."""
        return list(self._served)

    def all(self) -> Iterator[Served]:
        """Every version that is loaded."""
        for versions in self._served.values():
            yield from versions.values()

    def versions(self, name: str) -> list[str]:
        """The loaded versions of a model, newest first. Raises :class:`NotFoundError`."""
        self.get(name)
        return list(self._served[name])

    def get(self, name: str, version: str = "") -> Served:
        """A loaded model; its newest version where none is named.

        Raises
        ------
        NotFoundError
            Naming those that are loaded.
        """
        versions = self._served.get(name)
        if versions is None:
            if name in self._sources:
                raise NotFoundError(f"model {name!r} is not loaded: {self._why.get(name, 'it is being loaded')}")
            raise NotFoundError(f"there is no model {name[:100]!r}; loaded: {', '.join(self._served) or 'none'}")
        if not version:
            return next(iter(versions.values()))
        if version not in versions:
            raise NotFoundError(f"model {name!r} has no version {version[:20]!r}; loaded: {', '.join(versions)}")
        return versions[version]

    def index(self) -> list[State]:
        """Every model and version; those that take photos too."""
        states: list[State] = []
        for name in self._sources:
            if name in self._served:
                found = [State(name, version, "READY", "") for version in self._served[name]]
            else:
                why = self._why.get(name)
                found = [State(name, "", "LOADING" if why is None else "UNAVAILABLE", why or "")]
            states += found
            states += [state._replace(name=name + PHOTOS) for state in found]
        return states

    async def load(self, name: str) -> None:
        """Read a model anew and serve it; requests of its former versions are answered by these.

        Raises
        ------
        NotFoundError
            Where the server was not started with a model of that name.
        BadRequestError
            If it cannot be loaded; the versions that were served before stay.
        """
        async with self._lock(name):
            try:
                loaded = await asyncio.to_thread(self._read, name)
            except (NybbleError, OSError, ValueError) as error:
                if name not in self._served:
                    self._why[name] = str(error)
                raise BadRequestError(f"model {name!r} cannot be loaded: {error}") from error
            for served in loaded.values():
                self._processor.add(served.lane)
            before = self._served.get(name, {})
            self._served[name] = loaded
            self._why.pop(name, None)
            _log.info("model loaded", extra={"model": name, "versions": list(loaded)})
            self._retire(before)

    async def unload(self, name: str) -> None:
        """Stop serving a model, and give its memory back once its last request is answered.

        Raises
        ------
        NotFoundError
            Where it is not loaded.
        """
        async with self._lock(name):
            self.get(name)
            self._why[name] = _UNLOADED
            self._retire(self._served.pop(name))
            _log.info("model unloaded", extra={"model": name})

    async def close(self) -> None:
        """Unload all, and wait until everything is given back."""
        for name in list(self._served):
            await self.unload(name)
        await asyncio.gather(*self._closing)

    def _lock(self, name: str) -> asyncio.Lock:
        if name not in self._locks:
            known = ", ".join(self._sources)
            raise NotFoundError(f"the server was not started with a model {name[:100]!r}; it has: {known}")
        return self._locks[name]

    def _read(self, name: str) -> dict[str, Served]:
        settings = self._sources[name]
        loaded: dict[str, Served] = {}
        try:
            for version, path in _versions(settings):
                loaded[version] = Served(name, version, path, settings, self._threads, self._metrics)
        except BaseException:
            for served in loaded.values():
                served.close()
            raise
        return loaded

    def _retire(self, versions: Mapping[str, Served]) -> None:
        for served in versions.values():
            served.retire()
            task = asyncio.create_task(self._close(served))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def _close(self, served: Served) -> None:
        while not served.is_idle:
            await asyncio.sleep(_LOOK)
        self._processor.remove(served.lane)
        await asyncio.to_thread(_close, served)


_UNLOADED = "it was unloaded"


def _close(served: Served) -> None:
    """Give a model's memory back, to the system too: glibc keeps much of what several threads have freed."""
    served.close()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _versions(settings: ModelSettings) -> list[tuple[str, Path]]:
    """Versions and their folders, newest first; a folder without versions, or an ensemble, is version 1."""
    place = locate(settings.path, ensembles=True)
    if is_ensemble(place) or place.is_file():
        return [("1", place)]
    numbered = sorted(
        (int(entry.name), entry) for entry in place.iterdir() if entry.name.isdecimal() and _is_model(entry)
    )
    if not numbered or _is_model(place):
        return [("1", place)]
    chosen = numbered if settings.versions == "all" else numbered[-1:]
    return [(str(number), path) for number, path in reversed(chosen)]


def _is_model(path: Path) -> bool:
    return (path / "model").is_file() or (path / "model" / "model").is_file()
