"""The error of the engine."""

from __future__ import annotations

from nybble.graph.errors import NybbleError


class EngineError(NybbleError, ValueError):
    """A network, a number of threads or an instruction set that the engine cannot run; the text says which."""
