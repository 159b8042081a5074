"""Some channels, in any order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nybble.graph.errors import GraphError
from nybble.graph.folder import ModelFolder
from nybble.graph.lines import LayerFile, joined
from nybble.graph.nodes import Node
from nybble.graph.ops.base import Example
from nybble.graph.ops.examples import activation
from nybble.graph.ops.forms import Form
from nybble.graph.ops.moving import Moves, MovingOperation
from nybble.graph.ops.reading import OnnxNode, OnnxValue
from nybble.graph.ops.registry import register
from nybble.graph.types import ACTIVATIONS, DType
from nybble.graph.value_type import MAX_EXTENT


@dataclass(frozen=True, kw_only=True, eq=False)
class PickChannels(Node):
    """Channel ``c`` of the result is channel ``channels[c]`` of the input: a part of them, shuffled, or repeated."""

    input_type: DType
    channels: tuple[int, ...]


class PickChannelsOperation(MovingOperation[PickChannels]):
    """Selection and order of channels."""

    node = PickChannels
    onnx_operators = ("Gather",)

    def result_shape(self, node: PickChannels, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """The result has as many channels as are named."""
        if not node.channels or not all(0 <= channel < shape[0] for channel in node.channels):
            raise GraphError(f"picks channels outside of 0..{shape[0] - 1}", node=node.name, field="channels")
        return len(node.channels), shape[1], shape[2]

    def moves(self, node: PickChannels, shape: tuple[int, int, int]) -> Moves:
        """All rows and columns, and the named channels."""
        return Moves(tuple(range(shape[1])), tuple(range(shape[2])), (node.channels,))

    def attributes(self, node: PickChannels) -> Mapping[str, object]:
        """Write the channels."""
        return {"channels": joined(node.channels)}

    def read_attributes(self, folder: ModelFolder, file: LayerFile) -> Mapping[str, Any]:
        """Read the channels."""
        words = file.words("channels")
        if not all(word.isdecimal() and len(word) < 10 and int(word) < MAX_EXTENT for word in words):
            raise file.error(f"channels must be numbers below {MAX_EXTENT}", "channels")
        return {"channels": tuple(map(int, words))}

    def write_onnx(self, node: PickChannels, form: Form, source: str, output: str) -> str:
        """Written as Gather along the channels."""
        channels = form.constant(f"{node.name}/channels", list(node.channels), np.int64)
        return form.node("Gather", [source, channels], output, name=node.name, axis=1)

    def read_onnx(self, node: OnnxNode) -> OnnxValue | None:
        """Reads Gather of channels of images by constant indices."""
        if node.is_constant(0) or not node.is_constant(1) or node.attribute("axis", 0) != 1:
            return None
        indices = node.constant(1, "indices")
        source = node.activation(0)
        kind = node.type_of(source)
        if indices.ndim != 1 or indices.dtype.kind not in "iu" or len(kind.shape) != 3:
            return None
        count = kind.shape[0]
        if indices.size == 0 or indices.size > MAX_EXTENT or indices.min() < -count or indices.max() >= count:
            raise GraphError(f"its indices are not in {-count}..{count - 1}, for {count} channels", node=node.name)
        channels = tuple(int(index) % count for index in indices)
        made = node.add(
            PickChannels(name=node.free(node.name), inputs=(source.name,), input_type=kind.dtype, channels=channels)
        )
        return OnnxValue(made, source.unit[list(channels)])

    def details(self, node: PickChannels) -> tuple[str, ...]:
        """Show the first few channels."""
        return (f"channels {','.join(map(str, node.channels[:4]))}{',..' if len(node.channels) > 4 else ''}",)

    def examples(self, random: np.random.Generator) -> Iterator[Example[PickChannels]]:
        """Cover every type: a part, every other one, all shuffled, some repeated."""
        for input_type in ACTIVATIONS:
            for channels in ((2, 3, 4), (0, 2, 4), (4, 1, 3, 0, 2), (1, 1, 4)):
                node = PickChannels(name="pick", inputs=("x",), input_type=input_type, channels=channels)
                yield Example(node, (activation(input_type, 5, 3, 4),))


register(PickChannelsOperation())
