"""Writes a network as ncnn's two files in INT8: signed codes of weights by channel, of activations by tensor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .layers import Layer, Network, readers, symmetric

Array = NDArray[Any]
#: Stands before weights of eight bits.
_INT8_TAG = 0x000D4B38
#: What the first line of the text is.
_MAGIC = 7767517
#: Added to a layer's way of scaling where its result stays in eight bits.
_REQUANTIZED = 100
_RELU, _CLIP = 1, 3


def write_ncnn(network: Network, path: Path) -> None:
    """Write the text to ``path``, weights beside it as ``.bin``; raises :class:`ValueError` for an unknown layer."""
    writer = _Writer(network)
    text, weights = writer.content()
    path.with_suffix(".bin").write_bytes(weights)
    path.write_text(text)


class _Writer:
    def __init__(self, network: Network) -> None:
        self._network = network
        self._lines: list[str] = []
        self._weights: list[bytes] = []
        self._blobs = 0
        # A blob is read once: those of a value that has several readers, in the order in which they are taken.
        self._copies: dict[str, list[str]] = {}

    def content(self) -> tuple[str, bytes]:
        """The text and the weights."""
        network = self._network
        channels, rows, columns = network.shapes[network.input]
        self._line("Input", [], network.input, f"0={columns} 1={rows} 2={channels}")
        for layer in network.layers:
            if layer.op not in _WRITE:
                raise ValueError(f"no layer for {layer.op} ({layer.output})")
            _WRITE[layer.op](self, layer)
        head = f"{_MAGIC}\n{len(self._lines)} {self._blobs}\n"
        return head + "\n".join(self._lines) + "\n", b"".join(self._weights)

    def conv(self, layer: Layer) -> None:
        """A convolution, depthwise or dense."""
        assert layer.weights is not None  # noqa: S101 - a Conv has weights
        groups = layer.arguments["group"]
        depthwise = groups == len(layer.weights) == self._network.shapes[layer.inputs[0]][0] and groups > 1
        if groups > 1 and not depthwise:
            raise ValueError(f"no layer for a convolution in {groups} groups ({layer.output})")
        rows, columns = layer.weights.shape[2:]
        top, left, bottom, right = layer.arguments["pads"]
        down, across = layer.arguments["strides"]
        deep, wide = layer.arguments.get("dilations", (1, 1))
        given = f"0={len(layer.weights)} 1={columns} 11={rows} 2={wide} 12={deep} 3={across} 13={down}"
        given += f" 4={left} 15={right} 14={top} 16={bottom} 5=1 6={layer.weights.size}"
        given += f" 7={groups}" if depthwise else ""
        stays = self._stays(layer)
        given += f" 8={(_REQUANTIZED if stays else 0) + 1}" + self._clip(layer, stays)
        self._weigh(layer)
        if stays:
            self._scale(layer.output)
        self._line("ConvolutionDepthWise" if depthwise else "Convolution", layer.inputs, layer.output, given)

    def gemm(self, layer: Layer) -> None:
        """A fully connected layer."""
        assert layer.weights is not None  # noqa: S101 - a Gemm has weights
        self._weigh(layer)
        given = f"0={len(layer.weights)} 1=1 2={layer.weights.size} 8=1"
        self._line("InnerProduct", layer.inputs, layer.output, given + self._clip(layer, False))

    def add(self, layer: Layer) -> None:
        """A sum of two values, in float; a clip behind it is a layer of its own."""
        if layer.clip is None:
            self._line("BinaryOp", layer.inputs, layer.output, "0=0")
            return
        low, high = layer.clip
        self._copies[f"{layer.output}/sum"] = [f"{layer.output}/sum"]
        self._blobs += 1
        self._lines.append(self._entry("BinaryOp", layer.inputs, f"{layer.output}/sum", "0=0"))
        relu = low == 0 and self._network.ranges[layer.output][1] < high
        kind, given = ("ReLU", "") if relu else ("Clip", f"0={low:.9g} 1={min(high, _LARGEST):.9g}")
        self._line(kind, [f"{layer.output}/sum"], layer.output, given)

    def max_pool(self, layer: Layer) -> None:
        """A max pool, whose rest at the edge is dropped."""
        rows, columns = layer.arguments["kernel_shape"]
        down, across = layer.arguments["strides"]
        top, left, bottom, right = layer.arguments["pads"]
        given = f"0=0 1={columns} 11={rows} 2={across} 12={down} 3={left} 14={right} 13={top} 15={bottom} 5=1"
        self._line("Pooling", layer.inputs, layer.output, given)

    def mean(self, layer: Layer) -> None:
        """A global average pool."""
        self._line("Pooling", layer.inputs, layer.output, "0=1 4=1")

    def _stays(self, layer: Layer) -> bool:
        """Whether all that read the result read it in eight bits."""
        following = readers(self._network, layer.output)
        return bool(following) and all(reader.op == "Conv" for reader in following)

    def _clip(self, layer: Layer, stays: bool) -> str:
        if layer.clip is None:
            return ""
        low, high = layer.clip
        # Codes saturate at the range, which ends where the clip does.
        if low == 0 and (stays or self._network.ranges[layer.output][1] < high):
            return f" 9={_RELU}"
        return f" 9={_CLIP} -23310=2,{low:.9g},{min(high, _LARGEST):.9g}"

    def _weigh(self, layer: Layer) -> None:
        """Weights, bias, and the scales of weights and input."""
        assert layer.weights is not None  # noqa: S101 - the caller's layer has weights
        assert layer.bias is not None  # noqa: S101 - given with the weights
        codes, scales = symmetric(layer.weights)
        content = codes.tobytes()
        self._weights.append(np.uint32(_INT8_TAG).tobytes() + content + bytes(-len(content) % 4))
        self._weights.append(layer.bias.astype("<f4").tobytes())
        self._weights.append((1 / scales).astype("<f4").tobytes())
        self._scale(layer.inputs[0])

    def _scale(self, value: str) -> None:
        low, high = self._network.ranges[value]
        self._weights.append(np.float32(127 / max(-low, high)).tobytes())

    def _line(self, kind: str, inputs: Any, output: str, given: str) -> None:
        self._blobs += 1
        self._lines.append(self._entry(kind, inputs, output, given))
        taken = sum(layer.inputs.count(output) for layer in self._network.layers)
        self._copies[output] = [output]
        if taken > 1:
            self._copies[output] = [f"{output}/{number}" for number in range(taken)]
            self._blobs += taken
            names = " ".join(self._copies[output])
            self._lines.append(f"Split {output}/split 1 {taken} {output} {names}")

    def _entry(self, kind: str, inputs: Any, output: str, given: str) -> str:
        taken = [self._copies[name].pop() for name in inputs]
        return " ".join((kind, output, str(len(taken)), "1", *taken, output, given))


_LARGEST = float(np.finfo(np.float32).max)
_WRITE = {
    "Add": _Writer.add,
    "Conv": _Writer.conv,
    "Gemm": _Writer.gemm,
    "GlobalAveragePool": _Writer.mean,
    "MaxPool": _Writer.max_pool,
}
