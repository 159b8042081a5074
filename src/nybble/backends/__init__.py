"""Backends run networks. The interpreter is one, the native CPU engine another."""

from nybble.backends.base import Backend, Executable, Options, checked_integers, described
from nybble.backends.registry import backend_named, backends, register, unregister

__all__ = [
    "Backend",
    "Executable",
    "Options",
    "backend_named",
    "backends",
    "checked_integers",
    "described",
    "register",
    "unregister",
]
