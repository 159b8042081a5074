"""Networks with drawn weights: the right shapes and plausible values where no trained model is at hand."""

from __future__ import annotations

import math

import numpy as np

from nybble.graph import (
    Add,
    AvgPool2d,
    Conv2d,
    DType,
    Graph,
    Input,
    Linear,
    MaxPool2d,
    Node,
    Padding,
    Pair,
    Preprocessing,
    Quantize,
    ReLU,
    Scale,
    Tensor,
)

#: Mean square of a rectified four-bit activation that a sum of spread ``SPREAD`` quantizes to, about.
ACTIVATION_POWER = 12.0
#: Spread of the sums after requantization, before ReLU and clipping: about half end at 0 and few at 15.
SPREAD = 5.0
#: Channels of a block's output for one of its middle.
EXPANSION = 4


def resnet(
    *,
    blocks: tuple[int, int, int, int] = (3, 4, 6, 3),
    width: int = 64,
    image: int = 224,
    classes: int = 1000,
    seed: int = 0,
) -> Graph:
    """A ResNet v1.5 of bottleneck blocks, by default ResNet-50, that has learned nothing.

    Types, names and order are those of the published INT4 directory, so it is written with the same
    containers. Weights are normal, requantization keeps activations spread over four bits with about
    half of them zero, so that speed is comparable; its answers mean nothing.

    Parameters
    ----------
    blocks : tuple of int
        Blocks in each of the four stages.
    width : int
        Channels of the stem; stage ``i`` has ``width * 2**i`` in the middle of its blocks.
    image : int
        Rows and columns of the input, a multiple of 32.
    classes : int
    seed : int

    Returns
    -------
    Graph
        Input ``input``, s8 (3, image, image); output ``scale``, f32 (classes,).

    Raises
    ------
    ValueError
        If ``image`` is not a positive multiple of 32.
    """
    if image < 32 or image % 32:
        raise ValueError(f"image must be a positive multiple of 32, not {image}")
    builder = _Builder(seed)
    value = builder.conv("conv1", "input", 3, width, 7, 2, DType.S8)
    value = builder.relu_quantize("relu", "quantize1", value, DType.U4)
    builder.nodes.append(
        MaxPool2d(
            name="maxpool",
            inputs=(value,),
            input_type=DType.U4,
            kernel_size=Pair(3, 3),
            stride=Pair(2, 2),
            padding=Padding(1, 1, 1, 1),
        )
    )
    value, channels = "maxpool", width
    for stage, count in enumerate(blocks):
        for position in range(count):
            is_last = stage == len(blocks) - 1 and position == count - 1
            value = builder.block(
                f"layer{stage + 1}_{position}",
                value,
                channels,
                width << stage,
                stride=2 if stage and not position else 1,
                is_projection=not position,
                output_type=DType.U7 if is_last else DType.U4,
            )
            channels = (width << stage) * EXPANSION
    window = Pair(image // 32, image // 32)
    builder.nodes.append(
        AvgPool2d(name="avgpool", inputs=(value,), input_type=DType.U7, kernel_size=window, stride=Pair(1, 1))
    )
    builder.head(channels, classes)
    return Graph(
        [Input(name="input", dtype=DType.S8, shape=(3, image, image))],
        builder.nodes,
        ["scale"],
        preprocessing=Preprocessing(resize=max(256 * image // 224, image), crop=(image, image)),
    )


class _Builder:
    """Appends layers, and keeps the expected spread of every sum so that the next factor suits it."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._spread: dict[str, float] = {}
        self.nodes: list[Node] = []

    def conv(self, name: str, source: str, inputs: int, outputs: int, kernel: int, stride: int, dtype: DType) -> str:
        """A convolution that keeps the image's size but for the stride; s8 weights for s8 inputs, else s4."""
        is_first = dtype is DType.S8
        deviation, power = (30.0, 40.0**2) if is_first else (2.5, ACTIVATION_POWER)
        weight = self._normal(deviation, (outputs, inputs, kernel, kernel), DType.S8 if is_first else DType.S4)
        spread = math.sqrt(inputs * kernel * kernel * power) * deviation
        padding = kernel // 2
        self.nodes.append(
            Conv2d(
                name=name,
                inputs=(source,),
                input_type=dtype,
                weight=weight,
                bias=self._normal(spread / 8, (outputs,), DType.S16),
                stride=Pair(stride, stride),
                padding=Padding(padding, padding, padding, padding),
            )
        )
        self._spread[name] = spread
        return name

    def quantize(self, name: str, source: str, types: tuple[DType, DType], ratio: float, shift: int, count: int) -> str:
        """A requantization by about ``ratio``, a little different in every channel."""
        factors = ratio * (1 << shift) * self._random.uniform(0.9, 1.1, count)
        values = np.clip(np.rint(factors), 1, DType.U16.maximum).astype(np.uint16)
        factor = Tensor.from_array(DType.U16, values)
        self.nodes.append(
            Quantize(name=name, inputs=(source,), input_type=types[0], output_type=types[1], factor=factor, shift=shift)
        )
        return name

    def relu_quantize(self, relu: str, name: str, source: str, output_type: DType) -> str:
        """ReLU and requantization to ``output_type``, u4 or u7."""
        node = next(node for node in reversed(self.nodes) if node.name == source)
        self.nodes.append(ReLU(name=relu, inputs=(source,)))
        ratio = SPREAD * (8 if output_type is DType.U7 else 1) / self._spread[source]
        channels = self._channels(node)
        return self.quantize(name, relu, (DType.U31, output_type), ratio, 16, channels)

    def block(
        self,
        name: str,
        source: str,
        inputs: int,
        middle: int,
        *,
        stride: int,
        is_projection: bool,
        output_type: DType,
    ) -> str:
        """A bottleneck block; a projection's shortcut is a convolution, another's only a factor."""
        outputs = middle * EXPANSION
        value = self.conv(f"{name}_conv1", source, inputs, middle, 1, 1, DType.U4)
        value = self.relu_quantize(f"{name}_relu1", f"{name}_quantize1", value, DType.U4)
        value = self.conv(f"{name}_conv2", value, middle, middle, 3, stride, DType.U4)
        value = self.relu_quantize(f"{name}_relu2", f"{name}_quantize2", value, DType.U4)
        value = self.conv(f"{name}_conv3", value, middle, outputs, 1, 1, DType.U4)
        spread = self._spread[value]
        shortcut = f"{name}_downsample"
        if is_projection:
            projected = self.conv(f"{shortcut}_0", source, inputs, outputs, 1, stride, DType.U4)
            ratio = 32 / self._spread[projected]
            narrow = self.quantize(f"{shortcut}_1", projected, (DType.S32, DType.S8), ratio, 16, outputs)
            shortcut = self.quantize(f"{shortcut}_2", narrow, (DType.S8, DType.S32), spread / 32, 0, outputs)
        else:
            self.quantize(shortcut, source, (DType.U4, DType.U31), spread / SPREAD / 2, 1, outputs)
        self.nodes.append(Add(name=f"{name}_add", inputs=(value, shortcut)))
        self._spread[f"{name}_add"] = spread * math.sqrt(2)
        return self.relu_quantize(f"{name}_relu3", f"{name}_quantize3", f"{name}_add", output_type)

    def head(self, features: int, classes: int) -> None:
        """Linear layer and scale; logits spread over a few units."""
        self.nodes.append(
            Linear(
                name="fc",
                inputs=("avgpool",),
                input_type=DType.U7,
                weight=self._normal(30.0, (classes, features), DType.S8),
                bias=self._normal(100.0, (classes,), DType.S32),
            )
        )
        scales = np.full(classes, math.sqrt(features) * 30.0 * 16, dtype=np.float32)
        self.nodes.append(Scale(name="scale", inputs=("fc",), out_scale=Tensor.from_array(DType.F32, scales)))

    def _channels(self, node: Node) -> int:
        by_name = {other.name: other for other in self.nodes}
        while not isinstance(node, Conv2d):
            node = by_name[node.inputs[0]]
        return node.out_channels

    def _normal(self, deviation: float, shape: tuple[int, ...], dtype: DType) -> Tensor:
        values = np.rint(self._random.normal(0.0, deviation, shape))
        return Tensor.from_array(dtype, np.clip(values, dtype.minimum, dtype.maximum).astype(np.int64))
