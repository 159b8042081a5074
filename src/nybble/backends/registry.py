"""The registered backends, by name."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from nybble.backends.base import Backend
from nybble.graph.plugins import PluginError, declared_once

#: The entry points of other packages: each names an instance of :class:`Backend`.
GROUP = "nybble.backends"

#: The built-in backends are the folders beside this file. Each is imported on first use, since not every machine has
#: what it needs.
_BUILT_IN = frozenset(module.name for module in iter_modules([str(Path(__file__).parent)]) if module.ispkg)

#: Variants of built-in backends, after a dash: the folder's ``variants`` has them.
_VARIANTS = frozenset({"cuda-emulated"})

_by_name: dict[str, Backend] = {}


def register(backend: Backend) -> None:
    """Make a backend known by its name. Raises :class:`PluginError` if another one has it."""
    if backend.name in _by_name or backend.name in _BUILT_IN | _VARIANTS:
        raise PluginError(f"the backend name {backend.name!r} is taken; rename that of {type(backend).__module__}")
    _by_name[backend.name] = backend


def unregister(backend: Backend) -> None:
    """Forget a backend that :func:`register` made known."""
    del _by_name[backend.name]


def backends() -> list[str]:
    """Names of all backends, in alphabetical order; those of other packages included."""
    _load_packages()
    return sorted({*_BUILT_IN, *_VARIANTS, *_by_name})


def backend_named(name: str) -> Backend | None:
    """The backend with a name, or ``None``."""
    if name in _BUILT_IN:
        built_in: Backend = import_module(f"nybble.backends.{name}").backend
        return built_in
    if name in _VARIANTS:
        family, _, variant = name.partition("-")
        found: Backend = import_module(f"nybble.backends.{family}").variants[variant]
        return found
    if name not in _by_name:
        _load_packages()
    return _by_name.get(name)


#: Registers the backends of other packages. It runs only for an unknown name, since a search of all packages takes
#: time.
_load_packages = declared_once(GROUP, Backend, lambda found: _by_name.get(found.name) is found, register)
