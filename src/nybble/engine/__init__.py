"""The engine: photos in, answers out, over what a backend has compiled."""

from nybble.backends.errors import EngineError
from nybble.engine.engine import Engine, Prediction, available_isas, load

__all__ = ["Engine", "EngineError", "Prediction", "available_isas", "load"]
