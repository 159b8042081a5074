"""Networks with the shape of real ones and drawn weights, of any size: for tests.

Their answers mean nothing. They suit tests because their activations vary as in the published network: biases and
factors are calibrated so that well over half of the outputs of a ReLU are zero and the rest fills the range. Drawing
and calibrating use integers only, and a generator whose stream NumPy has frozen, so that a seed gives the same network
on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

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
from nybble.graph.infer import infer, infer_input
from nybble.graph.types import Array
from nybble.reference import compute

#: Share of each channel's sums, over the calibration image, that the bias puts below zero.
_ZERO_SHARE = 0.6
#: Share of them that the factor keeps from being clipped.
_KEPT_SHARE = 0.995
#: Mean size of the drawn weights. Those of the published network's 3x3 layers are about as large.
_MEAN_S4 = 1.15
_MEAN_S8 = 18.0


def bottleneck_resnet(
    blocks: Sequence[int] = (3, 4, 6, 3), width: int = 64, classes: int = 1000, image: int = 224, seed: int = 0
) -> Graph:
    """A ResNet of bottleneck blocks, the stride on the 3x3, with drawn weights.

    The default is ResNet-50 v1.5 for 224x224 photos and 1,000 classes, with the types and node names of the published
    INT4 one.

    Parameters
    ----------
    blocks : sequence of int
        Blocks in each layer. A layer's outputs have ``4 * width`` channels, twice as many in each further layer.
    width : int
        Channels of the first convolution and of the first layer's 3x3.
    classes : int
    image : int
        Rows and columns of the input; must be a multiple of ``2 ** (len(blocks) + 1)``.
    seed : int

    Returns
    -------
    Graph
        With preprocessing, and class names that say that the network is synthetic.

    Raises
    ------
    ValueError
        If a number is below 1 or the image is no such multiple.
    """
    if not blocks or min(*blocks, width, classes, image) < 1:
        raise ValueError("blocks, width, classes and image must be at least 1")
    if image % (1 << (len(blocks) + 1)):
        raise ValueError(f"image={image} is not a multiple of {1 << (len(blocks) + 1)}")
    builder = _Builder(image, len(blocks), seed)
    value = builder.convolution("conv1", "input", width, 7, 2, _ZERO_SHARE)
    value = builder.relu_quantize("relu", "quantize1", value)
    value = builder.add(
        MaxPool2d(
            name="maxpool",
            inputs=(value,),
            input_type=DType.U4,
            kernel_size=Pair(3, 3),
            stride=Pair(2, 2),
            padding=Padding(1, 1, 1, 1),
        )
    )
    for layer, count in enumerate(blocks):
        for block in range(count):
            is_last = (layer, block) == (len(blocks) - 1, count - 1)
            value = builder.bottleneck(
                f"layer{layer + 1}_{block}_",
                value,
                width << layer,
                stride=2 if layer > 0 and block == 0 else 1,
                projects=block == 0,
                target=DType.U7 if is_last else DType.U4,
            )
    extent = Pair(*builder.types[value].shape[1:])
    pool = AvgPool2d(name="avgpool", inputs=(value,), input_type=DType.U7, kernel_size=extent, stride=Pair(1, 1))
    output = builder.classifier(builder.add(pool), classes)
    return Graph(
        [builder.entry],
        builder.nodes,
        [output],
        preprocessing=Preprocessing(resize=image * 8 // 7, crop=(image, image)),
        class_names=[f"synthetic class {index}" for index in range(classes)],
    )


class _Builder:
    """Appends nodes and keeps the outputs of each for the calibration images, from which the next is calibrated."""

    def __init__(self, image: int, blocks: int, seed: int) -> None:
        # Frozen for good, unlike the streams of numpy.random.Generator.
        self._random = np.random.RandomState(seed)
        self.entry = Input(name="input", dtype=DType.S8, shape=(3, image, image))
        self.nodes: list[Node] = []
        # The maps of the last layer must have enough samples to rank.
        count = math.ceil(64 / (image >> (blocks + 1)) ** 2)
        self.types = {"input": infer_input(self.entry)}
        self._values = {"input": clouds(self._random, count, image)}

    def add(self, node: Node, value: Array | None = None) -> str:
        """Append a node, whose value may be computed already; returns its name."""
        self.types[node.name] = infer(node, [self.types[name] for name in node.inputs])
        self._values[node.name] = self._computed(node) if value is None else value
        self.nodes.append(node)
        return node.name

    def convolution(self, name: str, source: str, channels: int, kernel: int, stride: int, zero_share: float) -> str:
        """A convolution with a drawn weight and a bias that puts ``zero_share`` of its sums below zero."""
        kind = self.types[source]
        dtype = DType.S8 if kind.dtype is DType.S8 else DType.S4
        weight = self._weight(dtype, (channels, kind.shape[0], kernel, kernel))
        node = self._convolution(name, source, weight, stride)
        return self._add_biased(node, self._computed(node), zero_share)

    def _convolution(self, name: str, source: str, weight: Tensor, stride: int) -> Conv2d:
        side = weight.shape[2] // 2
        return Conv2d(
            name=name,
            inputs=(source,),
            input_type=self.types[source].dtype,
            weight=weight,
            stride=Pair(stride, stride),
            padding=Padding(side, side, side, side),
        )

    def _add_biased(self, node: Conv2d, sums: Array, zero_share: float, shortcut: str | None = None) -> str:
        """Append the convolution with the bias that puts this share of ``sums``, shortcut included, below zero."""
        total = sums if shortcut is None else sums + self._values[shortcut]
        bias = np.clip(-_ranked(total, zero_share), DType.S16.minimum, DType.S16.maximum)
        biased = replace(node, bias=Tensor.from_array(DType.S16, bias))
        return self.add(biased, sums + bias.astype(np.int32)[:, None, None])

    def relu_quantize(self, relu: str, quantize: str, source: str, target: DType = DType.U4) -> str:
        """ReLU, then a requantize that spreads each channel's kept share over the type's range."""
        self.add(ReLU(name=relu, inputs=(source,)))
        factor = _ratio(target.maximum << 16, _ranked(self._values[relu], _KEPT_SHARE))
        return self.quantize(quantize, relu, target, factor, 16)

    def quantize(self, name: str, source: str, target: DType, factor: Array, shift: int) -> str:
        """A requantize by ``factor / 2**shift``, as far as u16 goes."""
        return self.add(
            Quantize(
                name=name,
                inputs=(source,),
                input_type=self.types[source].dtype,
                output_type=target,
                factor=Tensor.from_array(DType.U16, np.clip(factor, 1, DType.U16.maximum)),
                shift=shift,
            )
        )

    def bottleneck(self, prefix: str, source: str, width: int, *, stride: int, projects: bool, target: DType) -> str:
        """1x1, 3x3, 1x1 and a shortcut of about the size of their sum."""
        value = self.convolution(f"{prefix}conv1", source, width, 1, 1, _ZERO_SHARE)
        value = self.relu_quantize(f"{prefix}relu1", f"{prefix}quantize1", value)
        value = self.convolution(f"{prefix}conv2", value, width, 3, stride, _ZERO_SHARE)
        value = self.relu_quantize(f"{prefix}relu2", f"{prefix}quantize2", value)
        weight = self._weight(DType.S4, (4 * width, width, 1, 1))
        branch = self._convolution(f"{prefix}conv3", value, weight, 1)
        sums = self._computed(branch)
        spread = _ranked(np.abs(sums), _KEPT_SHARE)
        if projects:
            shortcut = self.convolution(f"{prefix}downsample_0", source, 4 * width, 1, stride, 0.5)
            size = _ranked(np.abs(self._values[shortcut]), _KEPT_SHARE)
            shortcut = self.quantize(f"{prefix}downsample_1", shortcut, DType.S8, _ratio(127 << 16, size), 16)
            shortcut = self.quantize(f"{prefix}downsample_2", shortcut, DType.S32, _ratio(spread, 127), 0)
        else:
            shortcut = self.quantize(f"{prefix}downsample", source, DType.U31, _ratio(2 * spread, 15), 1)
        value = self._add_biased(branch, sums, _ZERO_SHARE, shortcut)
        value = self.add(Add(name=f"{prefix}add", inputs=(value, shortcut)))
        value = self.relu_quantize(f"{prefix}relu3", f"{prefix}quantize3", value, target)
        # No later node reads the values inside the block.
        self._values = {value: self._values[value]}
        return value

    def classifier(self, source: str, classes: int) -> str:
        """Linear, with a bias that centres each class, and a scale that gives logits of a few units."""
        features = self.types[source].shape[0]
        node = Linear(
            name="fc",
            inputs=(source,),
            input_type=self.types[source].dtype,
            weight=self._weight(DType.S8, (classes, features)),
        )
        sums = self._computed(node)
        node = replace(node, bias=Tensor.from_array(DType.S32, -_ranked(sums, 0.5)))
        value = self.add(node)
        size = max(1, int(np.abs(self._values[value]).max()))
        scale = Tensor.from_array(DType.F32, np.full(classes, size / 8, np.float32))
        return self.add(Scale(name="scale", inputs=(value,), out_scale=scale))

    def _computed(self, node: Node) -> Array:
        return compute(node, [self.types[name] for name in node.inputs], [self._values[name] for name in node.inputs])

    def _weight(self, dtype: DType, shape: tuple[int, ...]) -> Tensor:
        """Bell-shaped weights with long tails, as trained ones have: one random byte each, through a table."""
        table = _laplace(_MEAN_S4 if dtype is DType.S4 else _MEAN_S8, dtype)
        draws = np.frombuffer(self._random.bytes(math.prod(shape)), np.uint8)
        return Tensor.from_array(dtype, table[draws].reshape(shape))


def _laplace(mean: float, dtype: DType) -> Array:
    """256 equally likely values of a Laplace distribution of this mean size, rounded: int8."""
    sizes = np.array([round(-mean * math.log(1 - (index + 0.5) / 128)) for index in range(128)])
    table: Array = np.clip(np.concatenate([sizes, -sizes]), -dtype.maximum, dtype.maximum).astype(np.int8)
    return table


def _ranked(values: Array, share: float) -> Array:
    """For each channel the value that ``share`` of its samples, over all images, do not exceed: int64 (C)."""
    samples = np.moveaxis(values, 1, 0).reshape(values.shape[1], -1)
    rank = min(int(share * samples.shape[1]), samples.shape[1] - 1)
    ranked: Array = np.partition(samples, rank, axis=1)[:, rank].astype(np.int64)
    return ranked


def _ratio(numerator: Array | int, denominator: Array | int) -> Array:
    """Rounded quotients of numbers above zero; a denominator of zero counts as one."""
    below = np.maximum(np.asarray(denominator, np.int64), 1)
    quotients: Array = (2 * np.asarray(numerator, np.int64) + below) // (2 * below)
    return quotients


def clouds(random: np.random.RandomState, count: int, image: int) -> Array:
    """Images with structure at every size, like photos, whose colours mostly rise and fall together: int8."""
    total = np.zeros((count, 3, image, image), np.int64)
    for octave, (shared, own) in enumerate(((5, 1), (9, 2), (12, 3), (16, 4), (20, 5), (24, 6))):
        cell = 1 << octave
        if image % cell:
            break
        grid = image // cell
        colour = random.randint(-shared, shared + 1, (count, 1, grid, grid))
        colour = colour + random.randint(-own, own + 1, (count, 3, grid, grid))
        total += colour.repeat(cell, axis=2).repeat(cell, axis=3)
    return total.astype(np.int8)
