"""Four-bit integer inference for image networks: weights and activations.

>>> import nybble
>>> engine = nybble.load("path/to/nvidia-resnet50-int4")  # doctest: +SKIP
>>> engine.classify(["cat.jpg"])  # doctest: +SKIP
"""

from nybble.engine import Engine, Prediction, available_isas, load
from nybble.graph import Graph, GraphError, ModelFormatError, NybbleError, read_graph, write_graph

__version__ = "0.1.0"

__all__ = [
    "Engine",
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
