"""The engine: plan, kernel choice, execution."""

from nybble.engine.engine import Engine, Prediction, available_isas, load
from nybble.engine.errors import EngineError
from nybble.engine.plan import Plan

__all__ = ["Engine", "EngineError", "Plan", "Prediction", "available_isas", "load"]
