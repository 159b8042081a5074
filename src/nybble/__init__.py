"""Four-bit integer inference for image networks: weights and activations.

>>> import nybble, numpy as np
>>> engine = nybble.load()
>>> photo = np.zeros((480, 640, 3), np.uint8)  # Or a path, bytes, a Pillow image, a tensor, or many of them.
>>> len(engine.classify(photo))
5
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nybble.engine import Cascade, Engine, Ensemble, Prediction, available_isas, load
    from nybble.graph import Graph, GraphError, ModelFormatError, NybbleError, read_graph, write_graph

    # At run time the package, which can be called: see its end.
    from nybble.quantize.one_call import quantize as quantize

__version__ = "0.1.0"

__all__ = [
    "Cascade",
    "Engine",
    "Ensemble",
    "Graph",
    "GraphError",
    "ModelFormatError",
    "NybbleError",
    "Prediction",
    "available_isas",
    "load",
    "read_graph",
    "write_graph",
]

# Imported when they are used: `nybble --help` needs none of them, nor does Ctrl-C before a command has begun.
_ENGINE = ("Cascade", "Engine", "Ensemble", "Prediction", "available_isas", "load")
_SUBMODULES = ("engine", "graph", "images", "models", "quantize")


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return import_module(f"nybble.{name}")
    if name not in __all__:
        raise AttributeError(f"module 'nybble' has no attribute {name!r}")
    value = getattr(import_module("nybble.engine" if name in _ENGINE else "nybble.graph"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_SUBMODULES})
