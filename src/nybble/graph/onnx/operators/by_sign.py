"""PReLU in float64, as nybble writes it: ``Where(x < 0, x * slopes, x)``.

Names and metadata say what belongs together. The comparison and the product stand for constants, which the reader of
Where is given: 0 and the slopes.
"""

from __future__ import annotations

from collections.abc import Callable

import onnx

from nybble.graph.onnx.errors import OnnxImportError
from nybble.graph.onnx.load import label
from nybble.graph.onnx.operators.importing import Importing
from nybble.graph.onnx.operators.registry import reads
from nybble.graph.onnx.values import Value
from nybble.graph.ops.prelu import below_label, sloped_label


@reads("Less", first=True)
def below(importer: Importing, node: onnx.NodeProto) -> Value | None:
    """The comparison with 0."""
    if not _belongs(importer, node, below_label):
        return None
    zero = importer.constant(node, 1, "limit")
    if zero.real.size != 1 or zero.real.reshape(-1)[0] != 0:
        raise OnnxImportError("compares with another number than 0", node=label(node))
    return zero


@reads("Mul", first=True)
def sloped(importer: Importing, node: onnx.NodeProto) -> Value | None:
    """The product with the slopes."""
    return importer.constant(node, 1, "slopes") if _belongs(importer, node, sloped_label) else None


@reads("Where", first=True)
def chosen(importer: Importing, node: onnx.NodeProto) -> Value | None:
    """Checks that both parts read what it reads; its operation makes the PReLU."""
    name = label(node)
    if len(node.input) != 3 or "prelu" not in importer.build.hint(name).other:
        return None
    found = [(part.op_type, part.input[0], part.output[0], label(part)) for part in importer.readers[node.input[2]]]
    for operator, output, called in zip(("Less", "Mul"), node.input, (below_label, sloped_label), strict=False):
        if (operator, node.input[2], output, called(name)) not in found:
            raise OnnxImportError("is not what nybble writes for a PReLU", node=name)
    return None


def _belongs(importer: Importing, node: onnx.NodeProto, called: Callable[[str], str]) -> bool:
    """Whether a node is called as a part of a PReLU."""
    owner = label(node).rpartition("/")[0]
    return label(node) == called(owner) and "prelu" in importer.build.hint(owner).other
