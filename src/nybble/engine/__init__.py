"""The engine: photos in, answers out, over what a backend has compiled."""

from typing import TYPE_CHECKING, Any

from nybble.engine.engine import Engine, Prediction, available_isas, load
from nybble.engine.errors import EngineError

if TYPE_CHECKING:
    from nybble.engine.plan import Plan

__all__ = ["Engine", "EngineError", "Plan", "Prediction", "available_isas", "load"]


def __getattr__(name: str) -> Any:
    # The plan is the native engine's and needs the compiled part.
    if name != "Plan":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from nybble.engine.plan import Plan

    return Plan
