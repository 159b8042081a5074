"""The error of a benchmark."""

from __future__ import annotations

from importlib.util import find_spec

from nybble.graph import NybbleError


class BenchError(NybbleError):
    """A benchmark that cannot be run as asked: a peer that is not installed, a contestant that died."""


def require(package: str, wanted_by: str, remedy: str = "pip install 'nybble[bench]'") -> None:
    """Raise :class:`BenchError` where a package is not installed; it is not imported."""
    if find_spec(package) is None:
        raise BenchError(f"{wanted_by} needs the package {package}, which is not installed: {remedy}")
