"""The engine: photos in, answers out, over what a backend has compiled."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from nybble.backends.errors import EngineError
from nybble.engine.engine import Engine, Prediction, available_isas
from nybble.engine.opening import load

if TYPE_CHECKING:
    from nybble.engine.ensemble import Cascade, Ensemble, EnsembleError

__all__ = [
    "Cascade",
    "Engine",
    "EngineError",
    "Ensemble",
    "EnsembleError",
    "Prediction",
    "available_isas",
    "load",
]

_ENSEMBLE = ("Cascade", "Ensemble", "EnsembleError")


def __getattr__(name: str) -> Any:
    # Imported on first use: a single network does not need it.
    if name in _ENSEMBLE:
        return getattr(import_module("nybble.engine.ensemble"), name)
    raise AttributeError(f"module 'nybble.engine' has no attribute {name!r}")
