"""The error of the engine."""

from nybble.backends.errors import EngineError

__all__ = ["EngineError"]
