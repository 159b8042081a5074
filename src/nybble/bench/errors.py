"""The error of a benchmark."""

from __future__ import annotations

from importlib.util import find_spec

from nybble.graph import NybbleError


class BenchError(NybbleError):
    """Raised if a benchmark cannot run: a peer is not installed, or the process of a contestant ended."""


def require(package: str, wanted_by: str, remedy: str = "pip install 'nybble[bench]'") -> None:
    """Raise :class:`BenchError` where a package is not installed; it is not imported."""
    if find_spec(package) is None:
        raise BenchError(f"{wanted_by} needs the package {package}, which is not installed: {remedy}")
