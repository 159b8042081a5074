"""Operations: one file each, with everything that the package needs to know about it.

A new operation of nybble is a file here and one line below. One of another package is an instance of
:class:`~nybble.graph.ops.base.Operation`, named by an entry point of the group ``nybble.operations`` or given to
:func:`~nybble.graph.ops.registry.register`.
"""

from nybble.graph.ops.add import Add as Add
from nybble.graph.ops.avg_pool2d import AvgPool2d as AvgPool2d
from nybble.graph.ops.base import Example as Example
from nybble.graph.ops.base import Operation as Operation
from nybble.graph.ops.concat import Concat as Concat
from nybble.graph.ops.conv2d import Conv2d as Conv2d
from nybble.graph.ops.depth_to_space import DepthToSpace as DepthToSpace
from nybble.graph.ops.linear import Linear as Linear
from nybble.graph.ops.max_pool2d import MaxPool2d as MaxPool2d
from nybble.graph.ops.mul import Mul as Mul
from nybble.graph.ops.pad_edges import PadEdges as PadEdges
from nybble.graph.ops.pick_channels import PickChannels as PickChannels
from nybble.graph.ops.prelu import PReLU as PReLU
from nybble.graph.ops.quantize import Quantize as Quantize
from nybble.graph.ops.real_function import RealSigmoid as RealSigmoid
from nybble.graph.ops.real_function import RealSoftmax as RealSoftmax
from nybble.graph.ops.real_move import RealConcat as RealConcat
from nybble.graph.ops.real_move import RealReshape as RealReshape
from nybble.graph.ops.real_move import RealTranspose as RealTranspose
from nybble.graph.ops.registry import operation_named as operation_named
from nybble.graph.ops.registry import operation_of as operation_of
from nybble.graph.ops.registry import operations as operations
from nybble.graph.ops.registry import register as register
from nybble.graph.ops.registry import unregister as unregister
from nybble.graph.ops.relu import ReLU as ReLU
from nybble.graph.ops.resize import ResizeNearest as ResizeNearest
from nybble.graph.ops.resize_bilinear import ResizeBilinear as ResizeBilinear
from nybble.graph.ops.scale import Scale as Scale
from nybble.graph.ops.slice import Slice as Slice
from nybble.graph.ops.table import Table as Table
