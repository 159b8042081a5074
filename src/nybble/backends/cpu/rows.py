"""The table of convolution kernels: each instruction set's rows, and a layer in the form that they are asked about.

What a kernel computes, for which types, shapes and bounds, how its work may be cut and which layers it may be chosen
for is stated in its row (``native/kernels/conv``), and nowhere in Python.
"""

from __future__ import annotations

import atexit
from functools import cache

from nybble import _native
from nybble.backends.cpu.layout import stored_shape
from nybble.lower import Conv, Step


@cache
def rows(isa: str) -> dict[str, _native.KernelRow]:
    """Rows of an instruction set by the name of their method, ``direct``, the portable one, first.

    The instruction set is any that this build has kernels for, whether the machine has it or not.
    """
    return {row.name: row for row in _native.kernel_rows(isa)}


# Native objects must be gone before the compiled part is, whatever else still refers to this module then.
atexit.register(rows.cache_clear)

#: Channels in a group of the lists that a method reads, for those that read lists.
LIST_GROUPS: dict[str, int] = {
    row.name: row.list_group for isa in _native.built_isas() for row in rows(isa).values() if row.list_group
}


def layer(step: Step, most_weight: int | None = None, weights: tuple[int, int] | None = None) -> _native.ConvLayer:
    """A step that begins with a convolution or linear layer, as rows are asked about it.

    ``most_weight`` is the size of its largest weight, by default of the largest that the type has: what is chosen for a
    layer depends on its types, not on weights that happen to be small. ``weights`` are the least and the largest, 0
    among them, by default those of the type, or of both signs up to ``most_weight`` where that is given.
    """
    conv = step.body_as(Conv)
    window = conv.window
    if most_weight is None:
        most_weight, weights = conv.weight.dtype.magnitude, (conv.weight.dtype.minimum, conv.weight.dtype.maximum)
    return _native.ConvLayer(
        inputs=stored_shape(step.input),
        outputs=stored_shape(step.result),
        kernel=window.kernel_size,
        stride=window.stride,
        padding=(window.padding.top, window.padding.left),
        dilation=window.dilation,
        groups=conv.groups,
        low=step.input.dtype.minimum,
        high=step.input.dtype.maximum,
        most_weight=most_weight,
        clip=step.input.clipped,
        weights=weights,
        is_padded=not step.input.is_input,
    )
