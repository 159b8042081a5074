"""Convolutions and linear layers."""

from __future__ import annotations

from nybble.graph import Conv2d, Linear, Pair
from nybble.lower.base import LOWERINGS, Lowering
from nybble.lower.step import Channels, Conv, Step, Window

_EPILOGUE = ("add", "relu", "quantize", "table")


class ConvLowering(Lowering[Conv2d]):
    """The weights of a convolution. With several groups, channels must stay in their group."""

    node = Conv2d
    kind = "conv"
    channels = Channels.MIXED
    epilogue = _EPILOGUE

    def begin(self, node: Conv2d, step: Step) -> None:
        """The convolution's own geometry."""
        window = Window(node.kernel_size, node.stride, node.padding, node.dilation)
        step.body = Conv(node.weight, node.bias, window, node.groups)
        if node.groups > 1:
            step.channels = Channels.FIXED


class LinearLowering(Lowering[Linear]):
    """A linear layer, as a convolution whose kernel covers the input."""

    node = Linear
    kind = "conv"
    channels = Channels.MIXED
    epilogue = _EPILOGUE

    def begin(self, node: Linear, step: Step) -> None:
        """The geometry of that kernel; a vector is an image of one pixel."""
        shape = step.input.shape
        window = Window(Pair(*shape[1:]) if len(shape) == 3 else Pair(1, 1))
        step.body = Conv(node.weight, node.bias, window)


LOWERINGS.register(ConvLowering())
LOWERINGS.register(LinearLowering())
