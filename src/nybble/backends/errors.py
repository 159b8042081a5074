"""The error of backends and of the engine over them."""

from __future__ import annotations

from nybble.graph.errors import NybbleError


class EngineError(NybbleError, ValueError):
    """Raised for a network, a number of threads or an instruction set that a backend cannot run; the text names it."""
