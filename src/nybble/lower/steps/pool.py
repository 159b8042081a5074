"""Pools."""

from __future__ import annotations

from nybble.graph import AvgPool2d, MaxPool2d
from nybble.lower.base import LOWERINGS, Lowering
from nybble.lower.step import Channels, Pool, Step, Window


class MaxPoolLowering(Lowering[MaxPool2d]):
    """The lowering of MaxPool2d."""

    node = MaxPool2d
    kind = "pool"
    channels = Channels.KEPT

    def begin(self, node: MaxPool2d, step: Step) -> None:
        """The body's padding never counts as a maximum."""
        step.body = Pool(False, Window(node.kernel_size, node.stride, node.padding, node.dilation))


class AvgPoolLowering(Lowering[AvgPool2d]):
    """The lowering of AvgPool2d."""

    node = AvgPool2d
    kind = "pool"
    channels = Channels.KEPT

    def begin(self, node: AvgPool2d, step: Step) -> None:
        """The body's padding may count in the averages."""
        step.body = Pool(True, Window(node.kernel_size, node.stride, node.padding), node.count_include_pad)


LOWERINGS.register(MaxPoolLowering())
LOWERINGS.register(AvgPoolLowering())
