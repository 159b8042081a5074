"""The network as data: node types, graph, inference, and the model directory."""

from nybble.graph.directory import read_graph, write_graph
from nybble.graph.errors import GraphError, ModelFormatError, NybbleError
from nybble.graph.graph import Graph
from nybble.graph.infer import ValueType
from nybble.graph.nodes import (
    Add,
    AvgPool2d,
    Concat,
    Conv2d,
    Input,
    Linear,
    MaxPool2d,
    Node,
    Padding,
    Pair,
    Quantize,
    ReLU,
    Scale,
)
from nybble.graph.preprocessing import Preprocessing
from nybble.graph.tensor import Tensor
from nybble.graph.types import DType

__all__ = [
    "Add",
    "AvgPool2d",
    "Concat",
    "Conv2d",
    "DType",
    "Graph",
    "GraphError",
    "Input",
    "Linear",
    "MaxPool2d",
    "ModelFormatError",
    "Node",
    "NybbleError",
    "Padding",
    "Pair",
    "Preprocessing",
    "Quantize",
    "ReLU",
    "Scale",
    "Tensor",
    "ValueType",
    "read_graph",
    "write_graph",
]
