"""Moves channels to pixels: the end of a transposed convolution, or a pixel shuffle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nybble.graph.errors import GraphError
from nybble.graph.folder import ModelFolder
from nybble.graph.lines import LayerFile, joined
from nybble.graph.nodes import Node, Pair
from nybble.graph.ops.base import Example
from nybble.graph.ops.examples import activation
from nybble.graph.ops.forms import Form
from nybble.graph.ops.moving import Moves, MovingOperation
from nybble.graph.ops.reading import OnnxNode, OnnxValue
from nybble.graph.ops.registry import register
from nybble.graph.types import ACTIVATIONS, DType


@dataclass(frozen=True, kw_only=True, eq=False)
class DepthToSpace(Node):
    """Pixel ``(y * b + i, x * b + j)`` has the channels ``c * b * b + i * b + j`` of pixel ``(y, x)``.

    ``b`` is the block, whose rows and columns may differ: ``(c * b.rows + i) * b.columns + j``. PyTorch calls this
    PixelShuffle, ONNX DepthToSpace in mode CRD.
    """

    input_type: DType
    block: Pair


class DepthToSpaceOperation(MovingOperation[DepthToSpace]):
    """Blocks of pixels from channels."""

    node = DepthToSpace
    onnx_operators = ("DepthToSpace",)

    def result_shape(self, node: DepthToSpace, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """The result has fewer channels and more pixels."""
        size = node.block.rows * node.block.columns
        if min(node.block) < 1 or shape[0] % size:
            raise GraphError(
                f"{shape[0]} channels are not divisible into blocks of {node.block.rows}x{node.block.columns}",
                node=node.name,
                field="block",
            )
        return shape[0] // size, shape[1] * node.block.rows, shape[2] * node.block.columns

    def moves(self, node: DepthToSpace, shape: tuple[int, int, int]) -> Moves:
        """One map of channels for each position in a block."""
        block, (channels, rows, columns) = node.block, self.result_shape(node, shape)
        size = block.rows * block.columns
        return Moves(
            tuple(y // block.rows for y in range(rows)),
            tuple(x // block.columns for x in range(columns)),
            tuple(tuple(c * size + place for c in range(channels)) for place in range(size)),
            tuple(y % block.rows * block.columns for y in range(rows)),
            tuple(x % block.columns for x in range(columns)),
        )

    def attributes(self, node: DepthToSpace) -> Mapping[str, object]:
        """Write the block."""
        return {"block": joined(node.block)}

    def read_attributes(self, folder: ModelFolder, file: LayerFile) -> Mapping[str, Any]:
        """Read the block."""
        return {"block": file.pair("block")}

    def write_onnx(self, node: DepthToSpace, form: Form, source: str, output: str) -> str:
        """Written as DepthToSpace, for square blocks only."""
        if node.block.rows != node.block.columns:
            raise GraphError("ONNX has square blocks only", node=node.name, field="block")
        return form.node("DepthToSpace", [source], output, name=node.name, blocksize=node.block.rows, mode="CRD")

    def read_onnx(self, node: OnnxNode) -> OnnxValue | None:
        """Reads DepthToSpace in mode CRD."""
        size = node.attribute("blocksize", 0)
        source = node.activation(0)
        kind = node.type_of(source)
        if node.attribute("mode", b"DCR") != b"CRD" or not 1 <= size < 1 << 16 or kind.shape[0] % (size * size):
            raise GraphError("only mode CRD with a block that divides the channels is supported", node=node.name)
        unit = source.unit.reshape(-1, size * size)
        if np.any(unit != unit[:, :1]):
            raise GraphError("mixes channels of several scales", node=node.name)
        made = node.add(
            DepthToSpace(
                name=node.free(node.name), inputs=(source.name,), input_type=kind.dtype, block=Pair(size, size)
            )
        )
        return OnnxValue(made, unit[:, 0])

    def details(self, node: DepthToSpace) -> Sequence[str]:
        """Show the block."""
        return (f"block {node.block.rows},{node.block.columns}",)

    def examples(self, random: np.random.Generator) -> Iterator[Example[DepthToSpace]]:
        """Cover every type; blocks that are square and others."""
        for input_type in ACTIVATIONS:
            for block, channels in ((Pair(2, 2), 12), (Pair(3, 3), 9), (Pair(1, 1), 3)):
                node = DepthToSpace(name="shuffle", inputs=("x",), input_type=input_type, block=block)
                yield Example(node, (activation(input_type, channels, 3, 2),))
        node = DepthToSpace(name="shuffle", inputs=("x",), input_type=DType.S8, block=Pair(2, 3))
        yield Example(node, (activation(DType.S8, 12, 2, 3),))


register(DepthToSpaceOperation())
