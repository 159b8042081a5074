"""Nodes and their layer files, each by the operation of its type."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from nybble.graph.errors import GraphError
from nybble.graph.folder import ModelFolder
from nybble.graph.layer_output import LayerOutput
from nybble.graph.lines import LayerFile, LayerText
from nybble.graph.nodes import Node
from nybble.graph.ops import operation_named, operation_of, operations
from nybble.graph.types import DType
from nybble.graph.value_type import ValueType


def read_layer(folder: ModelFolder, file: LayerFile, name: str, inputs: tuple[str, ...]) -> Node:
    """Make the node that a layer file describes.

    Raises
    ------
    ModelFormatError
        On an unknown type, an unknown, missing or wrong key, or a tensor whose file is missing or of the
        wrong size. The graph checks what depends on the input's shape.
    """
    operation = operation_named(file.kind)
    if operation is None:
        raise file.error(f"unknown layer type {file.kind[:40]!r} (known: {', '.join(operations())})")
    node: Node = operation.read(folder, file, name, inputs)
    file.finish()
    return node


def reads_several(file: LayerFile) -> bool:
    """Whether the layer type of a file reads more than one value."""
    operation = operation_named(file.kind)
    return operation is not None and operation.least_inputs > 1


def check_declared_inputs(file: LayerFile, node: Node, values: Mapping[str, ValueType]) -> None:
    """Check the input types that a layer file declares and its node does not carry against the graph's.

    ``s32`` may stand for ``u31``, as everywhere. The Add inside a BottleneckQuantized has no file of its own and
    declares nothing.
    """
    operation = operation_named(file.kind)
    if operation is None:
        return
    for source, said in zip(node.inputs, operation.declared_inputs(file), strict=False):
        actual = values[source].dtype
        if said is not actual and not (said is DType.S32 and actual is DType.U31):
            raise file.error(f"is declared to read {said}, but {source} is {actual}", "compute_mode")


def format_version(nodes: Iterable[Node]) -> int:
    """The version of the model directory that the layer types of these nodes need."""
    known = (operation_of(node) for node in nodes)
    return max((operation.format_version for operation in known if operation is not None), default=1)


def write_layer(node: Node, file_name: str, values: Mapping[str, ValueType]) -> LayerOutput:
    """Text and tensors of a node; ``values`` are the graph's."""
    operation = operation_of(node)
    if operation is None:
        raise GraphError(f"no operation of this name is registered: {node.op}", node=node.name)
    output = LayerOutput(file_name, LayerText(node.op))
    operation.write(node, output, [values[name].dtype for name in node.inputs])
    return output
