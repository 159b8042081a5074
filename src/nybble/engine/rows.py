"""The table of convolution kernels: each instruction set's rows, and a layer in the form that they are asked about.

What a kernel computes, for which types, shapes and bounds, how its work may be cut and which layers it may be chosen
for is stated in its row (``native/kernels/conv``), and nowhere in Python.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from nybble import _native
from nybble.engine.layout import is_tight, stored_shape
from nybble.graph import Conv2d, Graph, Linear
from nybble.graph.nodes import Padding, Pair


@cache
def rows(isa: str) -> dict[str, _native.KernelRow]:
    """Rows of an instruction set by the name of their method, ``direct``, the portable one, first.

    The instruction set is any that this build has kernels for, whether the machine has it or not.
    """
    return {row.name: row for row in _native.kernel_rows(isa)}


#: Channels in a group of the lists that a method reads, for those that read lists.
LIST_GROUPS: dict[str, int] = {
    row.name: row.list_group for isa in _native.built_isas() for row in rows(isa).values() if row.list_group
}


@dataclass(frozen=True)
class Window:
    """Geometry of a convolution; a linear layer is one whose window is its whole input."""

    kernel: Pair
    stride: Pair = Pair(1, 1)
    padding: Padding = Padding()
    dilation: Pair = Pair(1, 1)
    groups: int = 1


def window(graph: Graph, head: Conv2d | Linear) -> Window:
    """Geometry of a convolution or linear layer."""
    if isinstance(head, Linear):
        shape = graph.values[head.inputs[0]].shape
        return Window(Pair(*shape[1:]) if len(shape) == 3 else Pair(1, 1))
    return Window(head.kernel_size, head.stride, head.padding, head.dilation, head.groups)


def layer(graph: Graph, head: Conv2d | Linear, most_weight: int | None = None) -> _native.ConvLayer:
    """A convolution or linear layer, as rows are asked about it.

    ``most_weight`` is the size of its largest weight, by default of the largest that the type has: what is chosen for a
    layer depends on its types, not on weights that happen to be small.
    """
    place = window(graph, head)
    dtype = graph.values[head.inputs[0]].dtype
    return _native.ConvLayer(
        inputs=stored_shape(graph, head.inputs[0]),
        outputs=stored_shape(graph, head.name),
        kernel=place.kernel,
        stride=place.stride,
        padding=(place.padding.top, place.padding.left),
        dilation=place.dilation,
        groups=place.groups,
        low=dtype.minimum,
        high=dtype.maximum,
        most_weight=head.weight.dtype.magnitude if most_weight is None else most_weight,
        is_padded=not is_tight(graph, head.inputs[0]),
    )
