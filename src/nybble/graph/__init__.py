"""The network as data: node types, graph, inference, and the model directory."""

from nybble.graph.directory import write_graph
from nybble.graph.errors import GraphError, ModelFormatError, NybbleError
from nybble.graph.graph import Graph
from nybble.graph.nodes import Input, Node, Padding, Pair
from nybble.graph.ops import (
    Add,
    AvgPool2d,
    Concat,
    Conv2d,
    DepthToSpace,
    Linear,
    MaxPool2d,
    Mul,
    PadEdges,
    PickChannels,
    PReLU,
    Quantize,
    RealConcat,
    RealReshape,
    RealSigmoid,
    RealSoftmax,
    RealTranspose,
    ReLU,
    ResizeBilinear,
    ResizeNearest,
    Scale,
    Slice,
    Table,
)
from nybble.graph.preprocessing import Preprocessing
from nybble.graph.reading import read_graph
from nybble.graph.task import Classify, Detect, Embed, Restore, Segment, Task, Text
from nybble.graph.tensor import Tensor
from nybble.graph.types import DType
from nybble.graph.value_type import ValueType

__all__ = [
    "Add",
    "AvgPool2d",
    "Classify",
    "Concat",
    "Conv2d",
    "DType",
    "DepthToSpace",
    "Detect",
    "Embed",
    "Graph",
    "GraphError",
    "Input",
    "Linear",
    "MaxPool2d",
    "ModelFormatError",
    "Mul",
    "Node",
    "NybbleError",
    "PReLU",
    "PadEdges",
    "Padding",
    "Pair",
    "PickChannels",
    "Preprocessing",
    "Quantize",
    "ReLU",
    "RealConcat",
    "RealReshape",
    "RealSigmoid",
    "RealSoftmax",
    "RealTranspose",
    "ResizeBilinear",
    "ResizeNearest",
    "Restore",
    "Scale",
    "Segment",
    "Slice",
    "Table",
    "Task",
    "Tensor",
    "Text",
    "ValueType",
    "read_graph",
    "write_graph",
]
