"""The table of convolution kernels: the rows of each instruction set, and layers in the form that rows check.

The row of a kernel (``native/kernels/conv``) states its types, shapes and bounds, how its work may be divided and which
layers it may be chosen for. Python repeats none of this.
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

    This works for any instruction set that this build has kernels for, also if the machine lacks it.
    """
    return {row.name: row for row in _native.kernel_rows(isa)}


# Native objects must be freed before the compiled part is unloaded, even if something still refers to this module.
atexit.register(rows.cache_clear)

#: Channels in a group of the lists that a method reads, for those that read lists.
LIST_GROUPS: dict[str, int] = {
    row.name: row.list_group for isa in _native.built_isas() for row in rows(isa).values() if row.list_group
}


def layer(step: Step, most_weight: int | None = None, weights: tuple[int, int] | None = None) -> _native.ConvLayer:
    """A step that begins with a convolution or linear layer, in the form that rows check.

    ``most_weight`` is the magnitude of its largest weight. The default is the largest of the type: choices for a layer
    depend on its types, not on weights that happen to be small. ``weights`` are the least and the largest weight (with
    0 between them). The default is the range of the type, or from ``-most_weight`` to ``most_weight`` if that is given.
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
